from pathlib import Path
RESULTS = Path(__file__).parents[1] / "docs" / "results"
# What the seconds of a run are divided into.
PARTS = ("update", "environment", "other", "evaluation")
def write_tables(results): ...

"""
Makes `golden.json`, what rliable says of fixed matrices. In an environment of its own:

    pip install rliable==1.2.0 'pandas<3' && python tests/report/make_golden.py
"""

import json
from importlib import metadata
from pathlib import Path

import numpy as np
from rliable import library, metrics

REPS = 20_000


def main() -> None:
    """Write the numbers."""
    rng = np.random.default_rng(7)
    matrices = {
        "ten runs of one task": (rng.normal(0.6, 0.3, (10, 1)), rng.normal(0.4, 0.3, (10, 1))),
        "seven runs of three": (rng.gamma(2, 0.4, (7, 3)), rng.gamma(2, 0.3, (5, 3))),
        "with ties": (rng.integers(0, 4, (8, 2)) / 2, rng.integers(0, 4, (8, 2)) / 2),
    }
    statistics = {
        "iqm": metrics.aggregate_iqm,
        "mean": metrics.aggregate_mean,
        "median": metrics.aggregate_median,
        "optimality_gap": metrics.aggregate_optimality_gap,
    }
    cases = []
    thresholds = np.linspace(0, 2, 9)
    for name, (x, y) in matrices.items():
        case = {"name": name, "x": x.tolist(), "y": y.tolist()}
        for key, function in statistics.items():
            scores, ends = library.get_interval_estimates(
                {"x": x}, lambda s, f=function: np.array([f(s)]), reps=REPS
            )
            case[key] = [float(scores["x"][0]), *(float(end) for end in ends["x"][:, 0])]
        scores, ends = library.get_interval_estimates(
            {"x,y": (x, y)}, metrics.probability_of_improvement, reps=2000
        )
        case["improvement"] = [float(scores["x,y"]), *map(float, np.ravel(ends["x,y"]))]
        profile, _ = library.create_performance_profile({"x": x}, thresholds, reps=10)
        case["profile"] = profile["x"].tolist()
        cases.append(case)
    golden = {
        "rliable": metadata.version("rliable"),
        "reps": REPS,
        "thresholds": thresholds.tolist(),
        "cases": cases,
    }
    Path(__file__).with_name("golden.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The table of docs/discrete.md is that of its file of results."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("_discrete", ROOT / "benchmarks" / "discrete.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(case: str, seed: int, **last: float) -> dict[str, Any]:
    best = {name: 2 * value for name, value in last.items()}
    return {"case": case, "seed": seed, "last": last, "best": best, "curve": [[9, 1 / 3], [10, 1]]}


def test_the_page_has_the_table(benchmark: Any) -> None:
    found = benchmark.results(ROOT / "docs" / "discrete.json")
    table = benchmark.table(found)
    assert table.count("\n") > 2
    assert f"\n\n{table}\n\n" in (ROOT / "docs" / "discrete.md").read_text()


def test_a_row_has_the_mean_and_each_seed(benchmark: Any, tmp_path: Path) -> None:
    runs = [
        run("qrdqn/CartPole-v1", 1, std=3.0, **{"return": 300.0}),
        run("qrdqn/CartPole-v1", 0, std=0.0, **{"return": 500.0}),
        run("dqn/BitFlipping-v0", 0, success=0.05, **{"return": -30.0}),
    ]
    for number, each in enumerate(runs):
        (tmp_path / f"run_{number}.json").write_text(json.dumps(each))
    rows = benchmark.table(benchmark.results(tmp_path)).splitlines()[2:]
    assert rows == [
        "| dqn/BitFlipping-v0 | 10 | **0.05** (0.05) | **0.1** (0.1) |",
        "| qrdqn/CartPole-v1 | 10 | **400** (500, 300) | **800** (1000, 600) |",
    ]


def test_one_file_says_what_the_folder_says(benchmark: Any, tmp_path: Path) -> None:
    (tmp_path / "run_0.json").write_text(json.dumps(run("dqn/BitFlipping-v0", 0, success=0.5)))
    file = tmp_path / "all.json"
    file.write_text(benchmark.in_one_file(benchmark.results(tmp_path)))
    (found,) = benchmark.results(file)
    assert found["curve"] == [[9, 0.333], [10, 1]]
    assert benchmark.table([found]) == benchmark.table(benchmark.results(tmp_path))

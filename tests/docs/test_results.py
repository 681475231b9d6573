"""The tables of results are those of the files in docs/results."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import solved  # noqa: E402


def seed_of(number: int, steps: int | None, label: str = "shipped") -> dict[str, Any]:
    """A run that was solved after so many steps, a hundredth of a second each, or not at all."""
    last = steps or 900
    wall = [0.02 * last, 0.0, 0.0, 5.0]
    row = [last, -150.0 if steps else -400.0, *wall, *[each / 2 for each in wall]]
    facts = {"task": "sac/Pendulum-v1", "label": label, "set": [], "seed": number}
    elsewhere = -152.0 if steps else None
    return {**facts, "solved": steps is not None, "on_other_starts": elsewhere, "curve": [row]}


@pytest.mark.parametrize("page", solved.SECTIONS)
def test_the_tables_agree_with_the_files(page: str) -> None:
    groups = solved.read_results(solved.RESULTS)
    assert groups
    text = (ROOT / page).read_text()
    assert solved.with_tables(page, groups, text) == text, "run benchmarks/solve.py --table"


def test_medians_count_failures_as_later(tmp_path: Path) -> None:
    for number, steps in enumerate((1000, 3000, 2000, None)):
        (tmp_path / f"{number}.json").write_text(json.dumps(seed_of(number, steps)))
    groups = solved.read_results(tmp_path)
    line = solved.solved_table(groups).splitlines()[-1]
    assert "| 3 of 4 | 2,500 (1,000 to 3,000) | 25 (10 to 30) | 100 / 0 / 0 |" in line
    assert line.endswith("| -152.0 |")
    (row,) = solved.unsolved_table(groups).splitlines()[2:]
    assert row == "| sac/Pendulum-v1 | shipped | 3 | 900 | -400 | -400 |"


def test_a_median_among_failures_is_more_than_any(tmp_path: Path) -> None:
    groups = {
        ("sac/Pendulum-v1", "shipped"): [seed_of(0, 1000), seed_of(1, None), seed_of(2, None)]
    }
    assert "| 1 of 3 | more (1,000 to 1,000) |" in solved.solved_table(groups)


def test_variants_are_compared_where_there_are_several() -> None:
    groups = {
        ("sac/Pendulum-v1", "shipped"): [seed_of(0, 1000)],
        ("sac/Pendulum-v1", "stock"): [seed_of(0, 4000, "stock")],
        ("her-sac/FetchReach-v4", "shipped"): [seed_of(0, 1000)],
    }
    table = solved.compared_table(groups)
    assert table.count("\n") == 3
    assert "| sac/Pendulum-v1 | stock | 1 of 1 | 4,000 (4,000 to 4,000) |" in table


def test_variants_stand_beside_the_shipped_ones_of_the_same_seeds_after_as_many_steps() -> None:
    def run(number: int, label: str, scores: list[float], solved: bool) -> dict[str, Any]:
        rows = [[1000 * (i + 1), score, *[0.0] * 8] for i, score in enumerate(scores)]
        return {**seed_of(number, None, label), "solved": solved, "curve": rows}

    shipped = [run(0, "shipped", [1, 2, 3], True), run(1, "shipped", [4, 5, 6, 7], False)]
    variant = [run(0, "other", [8, 9, 10, 11], False), run(1, "other", [12], True)]
    assert solved.side_by_side(variant, shipped) == ["4,000", "11.5", "5"]
    quicker = [run(1, "other", [12, 14], True), run(7, "other", [0], False)]
    assert solved.side_by_side(quicker, shipped) == ["2,000", "14", "5"]
    assert solved.side_by_side([run(7, "other", [0], False)], shipped) == ["-"] * 3


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"README\.md has no <!-- results -->"):
        solved.with_tables("README.md", {}, "no marks")

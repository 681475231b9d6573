"""
What `benchmarks/solve.py` found, as tables and pictures.

Each file in docs/results is a seed: its task, the `label` of its settings (`shipped`; `stock` for
SB3 with the RL Zoo's entry; otherwise a variant, with what was `set`), whether it was solved, the
score of the solving agent in episodes that begin elsewhere, and a row for each evaluation: steps,
score, and the seconds of each of `PARTS` so far, by the clock on the wall, then of the processor.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyrl_sb3.report.statistics import censored_median, interval, pointwise_iqm

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
# What the seconds of a run are divided into.
PARTS = ("update", "environment", "other", "evaluation")
STEPS, SCORE, CPU = 0, 1, slice(6, 9)  # of a row; the time of training only

COMPARED_ONLY = ("", "")  # how soon agents get so far
# Zoo's README and benchmark.md, single runs, and what is asked for here.
TARGETS = {
    "Pendulum-v1": ("-152 at 20,000", "-155 at 5,000, 45 s"),
    "MountainCarContinuous-v0": ("94.7 at 50,000", "93 at 20,000"),
    "LunarLanderContinuous-v3": ("260 at 500,000", "270 at 150,000"),
    "BipedalWalker-v3": ("298 at 500,000", "300 at 350,000, 45 min"),
    "ddpg/BipedalWalker-v3": ("197 at 1,000,000", "280"),
    "HalfCheetah-v5": COMPARED_ONLY,
    "FetchReach-v4": ("1.0 at 20,000", "1.0 at 2,000, 30 s"),
    "FetchPush-v4": ("about 1,000,000", "0.95 at 250,000, 60 min"),
    "FetchPickAndPlace-v4": ("-9.3 at 1,000,000", "0.9 at 550,000"),
    "parking-v0": ("-6.8 at 100,000", "-6.8 at 100,000, 20 min"),
}

Run = dict[str, Any]
Groups = dict[tuple[str, str], list[Run]]


def read_results(folder: Path) -> Groups:
    """All runs, by task and label."""
    groups: Groups = {}
    for file in sorted(folder.glob("*.json")):
        run = json.loads(file.read_text())
        if run["curve"]:
            groups.setdefault((run["task"], run["label"]), []).append(run)
    return dict(sorted(groups.items(), key=lambda item: (order(item[0][0]), item[0])))


def order(task: str) -> int:
    """As in `TARGETS`."""
    return list(TARGETS).index(target_of(task))


def target_of(task: str) -> str:
    """The key of a task in `TARGETS`."""
    return task if task in TARGETS else task.partition("/")[2]


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def over_seeds(runs: Sequence[Run], of: Callable[[Sequence[float]], float]) -> str:
    """
    The median over seeds, those that were not solved counting as later, and the range.

    :param of: takes the last row of a run
    """
    ends = [of(run["curve"][-1]) if run["solved"] else None for run in runs]
    median, solved = censored_median(ends), [end for end in ends if end is not None]
    if not solved:
        return "-"
    middle = "more" if median is None else number(median)
    return f"{middle} ({number(min(solved))} to {number(max(solved))})"


def steps_of(row: Sequence[float]) -> float:
    return float(row[STEPS])


def seconds_of(row: Sequence[float]) -> float:
    return float(sum(row[CPU]))


def how_soon(runs: Sequence[Run]) -> list[str]:
    """Steps and processor seconds, over the seeds."""
    return [over_seeds(runs, steps_of), over_seeds(runs, seconds_of)]


def solved_of(runs: Sequence[Run]) -> str:
    return f"{sum(run['solved'] for run in runs)} of {len(runs)}"


def row(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def shares(runs: Sequence[Run]) -> str:
    """How the processor's time divides into updates, environment and the rest."""
    totals = np.sum([run["curve"][-1][CPU] for run in runs], axis=0)
    return " / ".join(f"{100 * each / totals.sum():.0f}" for each in totals)


def mean_score(runs: Sequence[Run]) -> str:
    """Of the agents that solved the task, in other episodes."""
    found = [run["on_other_starts"] for run in runs if run["solved"]]
    if not found:
        return "-"
    digits = 1 if abs(found[0]) > 1 else 2
    return f"{np.mean(found):.{digits}f}"


def to_be_solved(groups: Groups) -> list[tuple[str, list[Run]]]:
    """The tasks with shipped settings whose threshold means that they are solved."""
    return [
        (task, runs)
        for (task, label), runs in groups.items()
        if label == "shipped" and TARGETS[target_of(task)] != COMPARED_ONLY
    ]


def solved_table(groups: Groups) -> str:
    lines = [
        "| task | RL Zoo | asked for | seeds solved | steps | processor seconds | "
        "update / environment / other, % | elsewhere |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for task, runs in to_be_solved(groups):
        zoo, asked = TARGETS[target_of(task)]
        cells = [task, zoo, asked, solved_of(runs), *how_soon(runs)]
        lines.append(row([*cells, shares(runs), mean_score(runs)]))
    return "\n".join(lines)


def settings(run: Run) -> str:
    return f"{run['label']}: `{' '.join(run['set'])}`" if run["set"] else str(run["label"])


def unsolved_table(groups: Groups) -> str:
    lines = ["| task | settings | seed | steps reached | last score | best score |"]
    lines.append("|---|---|---|---|---|---|")
    for (task, label), runs in groups.items():
        for run in runs:
            shipped = (task, "shipped") in groups
            if run["solved"] or (shipped and label != "shipped"):
                continue
            best = max(each[SCORE] for each in run["curve"])
            last = run["curve"][-1]
            scores = number(last[SCORE]), number(best)
            lines.append(row([task, settings(run), run["seed"], f"{last[STEPS]:,}", *scores]))
    return "\n".join(lines)


def score_at(run: Run, limit: float) -> float:
    """The last score until then; a run that is over keeps its last one."""
    return float([each[SCORE] for each in run["curve"] if each[STEPS] <= limit][-1])


def side_by_side(runs: Sequence[Run], shipped: Sequence[Run]) -> list[str]:
    """Steps that all runs of a variant have had, its mean score there, that of the same seeds."""
    theirs = {run["seed"]: run for run in shipped}
    pairs = [(run, theirs[run["seed"]]) for run in runs if run["seed"] in theirs]
    if not pairs:
        return ["-"] * 3
    stopped = [run for run, _ in pairs if not run["solved"]]
    at = min(steps_of(run["curve"][-1]) for run in stopped or [run for run, _ in pairs])
    scores = np.mean([[score_at(run, at) for run in pair] for pair in pairs], axis=0)
    return [f"{at:,.0f}", *map(number, scores)]


def compared_table(groups: Groups) -> str:
    """Variants of settings, task by task, where some are shipped."""
    lines = [
        "| task | settings | seeds solved | steps | processor seconds | at | score | shipped |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (task, label), runs in groups.items():
        alone = all(other != task or name == label for other, name in groups)
        if alone or (task, "shipped") not in groups:
            continue
        cells = [task, settings(runs[0]), solved_of(runs), *how_soon(runs)]
        beside = [""] * 3 if label == "shipped" else side_by_side(runs, groups[task, "shipped"])
        lines.append(row([*cells, *beside]))
    return "\n".join(lines)


def short_table(groups: Groups) -> str:
    """For the README."""
    lines = [
        "| task | RL Zoo | seeds solved here | steps | processor seconds |",
        "|---|---|---|---|---|",
    ]
    for task, runs in to_be_solved(groups):
        zoo, _ = TARGETS[target_of(task)]
        lines.append(row([task, zoo, solved_of(runs), *how_soon(runs)]))
    return "\n".join(lines)


SECTIONS: dict[str, dict[str, Callable[[Groups], str]]] = {
    "docs/results.md": {"solved": solved_table},
    "docs/settings.md": {"unsolved": unsolved_table, "compared": compared_table},
    "README.md": {"results": short_table},
}


def with_tables(page: str, groups: Groups, text: str) -> str:
    """The text of a page with the tables that belong between its marks."""
    for name, table in SECTIONS[page].items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise SystemExit(f"{page} has no {begin.strip()} ... {end}")
        text = f"{before}{begin}\n{table(groups)}\n\n{end}{after}"
    return text


def write_tables(folder: Path = RESULTS) -> None:
    groups = read_results(folder)
    for page in SECTIONS:
        path = ROOT / page
        path.write_text(with_tables(page, groups, path.read_text()))


def plot(groups: Groups, task: str, picture: Path) -> None:
    """Score against steps and processor seconds: the IQM over seeds and its 95% interval."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3), dpi=90, layout="constrained", sharey=True)
    compared = {label: runs for (name, label), runs in groups.items() if name == task}
    # Variants only where no settings are shipped yet.
    labels = [label for label in ("shipped", "stock") if label in compared] or list(compared)
    for label in labels:
        runs = compared[label]
        name = {"shipped": "ours", "stock": "SB3, RL Zoo"}.get(label, label)
        for axis, unit in zip(axes, (steps_of, seconds_of), strict=True):
            _draw(axis, runs, unit, f"{name}, {len(runs)} seed{'s' * (len(runs) > 1)}")
    axes[0].set(xlabel="environment steps", ylabel="score", title=task)
    axes[0].locator_params(axis="x", nbins=5)
    axes[1].set(xlabel="processor seconds of training")
    axes[1].legend(loc="lower right")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture)


def _draw(axis: Any, runs: Sequence[Run], unit: Callable[[Any], float], label: str) -> None:
    """A run that is over keeps its last score."""
    curves = [
        ([unit(row) for row in run["curve"]], [row[SCORE] for row in run["curve"]]) for run in runs
    ]
    at = np.linspace(max(x[0] for x, _ in curves), max(x[-1] for x, _ in curves), 200)
    values = np.array([np.interp(at, x, y) for x, y in curves])  # (runs, points)

    (line,) = axis.plot(at, pointwise_iqm(values), label=label)
    if len(values) > 1:
        chosen = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
        low, high = interval(pointwise_iqm(values[chosen]))
        axis.fill_between(at, low, high, color=line.get_color(), alpha=0.2, linewidth=0)

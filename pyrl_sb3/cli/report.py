"""`pyrl report RUN...`."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyrl_sb3.cli import options
from pyrl_sb3.cli.json_output import print_json

if TYPE_CHECKING:
    from pyrl_sb3.report.groups import Group
    from pyrl_sb3.report.statistics import Estimate
    from pyrl_sb3.report.summary import Summary

_HEADINGS = (
    *("group", "environment", "runs", "failed", "IQM", "median", "mean", "optimality gap"),
    *("reached", "steps to it", "seconds to it"),
)

_ANY_WIDTH = 1_000_000


def add_command(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "report",
        help="Compare groups of runs: interquartile mean, median, mean and optimality gap with 95% "
        "bootstrap intervals, probability of improvement, and the time to a threshold. A folder "
        "of several seeds is a group; other runs are grouped by their configuration.",
        short_help="Statistics over the seeds of runs.",
        epilog="Examples:  pyrl report sac/Pendulum-v1_1   |   pyrl report sac/Pendulum-v1_1 "
        "td3/Pendulum-v1_1 --label SAC --label TD3 --threshold -200 --out figures",
    )(_report)


def _report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Folders of seeds, of runs, or of several.")
    ],
    label: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A group's name; once for each group.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Return, or success rate, that counts as solved [default: success 1]."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the bootstrap.")] = 0,
    reps: Annotated[int, typer.Option(metavar="N", help="Resamples of the bootstrap.")] = 50_000,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_json: options.Json = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where pictures (PNG) are written.")
    ] = None,
    verbose: options.Verbose = False,
) -> None:
    from pyrl_sb3.report.groups import read_groups
    from pyrl_sb3.report.summary import improvements, summarise
    from pyrl_sb3.training.errors import InputError, require_package
    from pyrl_sb3.training.folders import make_folder
    from pyrl_sb3.training.request import require_at_least

    require_at_least(1, "reps", reps)
    require_at_least(0, "seed", seed)
    if threshold is not None and not math.isfinite(threshold):
        raise InputError(f"--threshold {threshold}: must be a finite number, such as -200")
    if out:
        require_package("matplotlib")
        make_folder(out, "--out")
    groups = read_groups(runs, label or ())
    for line in _left_out(groups):
        typer.echo(line, err=True)
    summaries = summarise(groups, threshold=threshold, seed=seed, reps=reps)
    for line in _untimed(groups, summaries):
        typer.echo(line, err=True)
    pairs = improvements(groups, seed=seed)
    if as_json:
        found = [summary.as_dict() for summary in summaries]
        print_json({"groups": found, "improvements": pairs})
    else:
        print_table = _print_markdown if markdown else _print_table
        print_table(summaries)
        typer.echo("\n".join(_lines(summaries, pairs)))
    if out:
        from pyrl_sb3.report.group_plots import plot_groups

        for path in plot_groups(groups, out, seed=seed):
            typer.echo(f"picture: {path}")


def _left_out(groups: "Sequence[Group]") -> Iterator[str]:
    """What is to be said of runs that are not as the others: left out, or failed."""
    for run in (run for group in groups for run in group.unevaluated):
        yield f"{run} has no evaluations yet and is left out"
    for run, problem in (each for group in groups for each in group.damaged.items()):
        yield f"{run} is left out: {problem}"
    for group in groups:
        labels = {curve.label for curves in group.curves.values() for curve in curves}
        for run in group.diverged:
            score = "scored by the worst evaluation of its group"
            what = score if str(run) in labels else "left out, as its group had none that is"
            yield f"{run} has failed: its last score is no finite number; {what}"


def _untimed(groups: "Sequence[Group]", summaries: "Sequence[Summary]") -> Iterator[str]:
    """What lacks where it is asked how soon a threshold was reached."""
    if any(summary.reached is not None for summary in summaries):
        for run, problem in (each for group in groups for each in group.untimed.items()):
            yield f"{run} has no seconds: {problem}"


def _estimate(value: "Estimate | None") -> str:
    if value is None:
        return "-"
    if value.low is None or value.high is None:
        return f"{value.value:.2f}"
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


def _row(summary: "Summary") -> list[str]:
    def time(value: float | None) -> str:
        if summary.reached is None:
            return "-"
        return "not by most" if value is None else f"{value:.0f}"

    return [
        summary.label + (" (coupled)" if summary.couples_seeds else ""),
        summary.env_id,
        str(summary.runs),
        str(summary.failed),
        *map(_estimate, (summary.iqm, summary.median, summary.mean, summary.optimality_gap)),
        "-" if summary.reached is None else f"{summary.reached}/{summary.runs}",
        time(summary.steps),
        "-" if summary.seconds is None and summary.steps is not None else time(summary.seconds),
    ]


def _print_markdown(summaries: "Sequence[Summary]") -> None:
    for row in (_HEADINGS, ["---"] * len(_HEADINGS), *map(_row, summaries)):
        typer.echo(f"| {' | '.join(row)} |")


def _print_table(summaries: "Sequence[Summary]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    rows = [_row(summary) for summary in summaries]
    # Groups side by side: their intervals in one line would be wider than most terminals.
    table.add_column(_HEADINGS[0], overflow="fold")
    for name, _, *numbers in rows:
        # Names may be broken anywhere, numbers only between them.
        longest = max(len(word) for number in numbers for word in number.split())
        table.add_column(name, overflow="fold", min_width=longest)
    for i, heading in enumerate(_HEADINGS[1:], 1):
        table.add_row(heading, *(row[i] for row in rows))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _ANY_WIDTH  # a file has no width
    console.print(table, crop=False)


def _lines(summaries: "Sequence[Summary]", pairs: Sequence[dict[str, Any]]) -> list[str]:
    lines = [""]
    kinds = sorted({summary.score for summary in summaries})
    lines.append(f"Scores: {' or '.join(kinds)} of the last evaluation. Intervals: 95%, bootstrap.")
    if any(summary.couples_seeds for summary in summaries):
        lines.append("(coupled): its copies learned from each other: one sample, no interval.")
    if any(summary.runs < 10 and summary.iqm.low is not None for summary in summaries):
        lines.append("Fewer than 10 runs: intervals are rough.")
    if any(len(set(summary.last_steps)) > 1 for summary in summaries):
        lines.append("Not all runs of a group are equally long: scores are of their last steps.")
    if any(summary.failed for summary in summaries):
        lines.append("Failed runs are scored by their last evaluation; without one they have none.")
    for pair in pairs:
        ends = "" if pair["low"] is None else f" [{pair['low']:.2f}, {pair['high']:.2f}]"
        lines.append(f"P({pair['x']} > {pair['y']}) in {pair['env_id']}: {pair['value']:.2f}{ends}")
    return lines

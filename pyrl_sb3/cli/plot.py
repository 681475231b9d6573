"""`pyrl plot RUN...`."""

from pathlib import Path
from typing import Annotated

import typer

from pyrl_sb3.cli import options
from pyrl_sb3.cli.json_output import print_json
from pyrl_sb3.errors import counted

_PICTURE = Path("learning_curve.png")


def add_command(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "plot",
        help="Draw the learning curves of runs into one picture: success rates, where there are "
        "any, and returns.",
        short_help="Draw learning curves.",
        epilog="Examples:  pyrl plot sac/Pendulum-v1_1   |   pyrl plot sac td3 --training "
        "--smooth 50 --out both.png   |   pyrl plot sac --json",
    )(_plot)


def _plot(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Folders of runs, or of several each.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"The picture [default: {_PICTURE}; none with --json]."),
    ] = None,
    training: Annotated[
        bool, typer.Option("--training", help="Plot training episodes, not evaluations.")
    ] = False,
    smooth: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Mean over the last N points [default: 1; 20 with --training].",
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="Over the picture.")] = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    from pyrl_sb3.report.curves import read_evaluations, read_training
    from pyrl_sb3.training.errors import require_package
    from pyrl_sb3.training.folders import require_writable
    from pyrl_sb3.training.recorded import read_each
    from pyrl_sb3.training.request import require_if_given

    require_if_given(1, "smooth", smooth)
    window = smooth or (20 if training else 1)
    if not as_json:
        out = out or _PICTURE
    if out:
        require_package("matplotlib")
        require_writable(out, "--out", _PICTURE.name, (".png", ".svg", ".pdf"))
    read = read_training if training else read_evaluations
    curves, left_out = read_each(runs, lambda run: read(run).smoothed(window))
    for line in left_out:
        typer.echo(line, err=True)
    if out:
        from pyrl_sb3.report.plots import plot_curves

        about = "training episodes" if training else "evaluations"
        plot_curves(curves, out, title or (curves[0].label if len(curves) == 1 else about))
    if as_json:
        print_json([curve.as_dict() for curve in curves])
    else:
        typer.echo(f"learning curves of {counted(len(curves), 'run')}: {out}")

"""`pyrl record RUN`."""

from pathlib import Path
from typing import Annotated

import typer

from pyrl_sb3.cli import options, output

_FILM = "agent.gif"


def add_command(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "record",
        help="Film the agent of a run into a GIF or MP4.",
        short_help="Film the agent of a run.",
        epilog="Examples:  pyrl record her-sac/FetchReach-v4_1   |   "
        "pyrl record sac/Ant-v5_1 --best --episodes 1 --out ant.mp4",
    )(_record)


def _record(
    run: options.Run,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"GIF or MP4 [default: {_FILM} in the run's folder]."),
    ] = None,
    episodes: options.Episodes = 3,
    seed: options.TestSeed = 0,
    best: options.Best = False,
    device: options.Device = "auto",
    trust: options.TrustFiles = False,
    verbose: options.Verbose = False,
) -> None:
    from pyrl_sb3.report.video import NoPictureError, check_film, film_trial, prepare_offscreen
    from pyrl_sb3.training.errors import InputError
    from pyrl_sb3.training.progress import episodes_bar
    from pyrl_sb3.training.recorded import trial_of_run

    console = output.console_for_log()
    request = trial_of_run(run, best=best, episodes=episodes, seed=seed, device=device, trust=trust)
    assert request.path is not None
    out = out or request.path.with_name(_FILM)
    check_film(out, "--out", kinds=(".gif", ".mp4"))
    prepare_offscreen()
    try:
        with episodes_bar(console, episodes) as shown:
            film_trial(request, out, episodes, shown)
    except NoPictureError as error:
        raise InputError(f"{error.about(request.env_id)}: {error}") from error
    console.print(f"film of {request.path}: {out}", markup=False)

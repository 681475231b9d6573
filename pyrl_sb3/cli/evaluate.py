"""`pyrl evaluate RUN...`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyrl_sb3.cli import options, output
from pyrl_sb3.cli.json_output import print_json
from pyrl_sb3.errors import counted

if TYPE_CHECKING:
    from pyrl_sb3.training.evaluation import Evaluation
    from pyrl_sb3.training.trial import TrialRequest


def add_command(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "evaluate",
        help="Run the agents of runs in the environments they were trained in; print returns and "
        "success rates.",
        short_help="Evaluate the agents of runs.",
        epilog="Examples:  pyrl evaluate sac/Pendulum-v1_1   |   "
        "pyrl evaluate sac td3 --best --episodes 100 --json",
    )(_evaluate)


def _evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Folders of runs, or of several each, or models."),
    ],
    episodes: options.Episodes = 20,
    seed: options.TestSeed = 0,
    best: options.Best = False,
    device: options.Device = "auto",
    trust: options.TrustFiles = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    from pyrl_sb3.training.progress import episodes_bar
    from pyrl_sb3.training.recorded import read_each, trial_of_run
    from pyrl_sb3.training.trial import try_out

    console = output.console_for_log()

    def read(run: Path) -> "TrialRequest":
        return trial_of_run(
            run, best=best, episodes=episodes, seed=seed, device=device, trust=trust
        )

    def evaluated(run: Path) -> dict[str, Any]:
        request = read(run)
        with episodes_bar(console, episodes) as shown:
            evaluation = try_out(request, shown)
        if not as_json:
            many = counted(episodes, "episode")
            console.print(f"{request.path}: {many}: {evaluation}", markup=False)
        return _as_dict(request, evaluation)

    read_each(runs, read, models=True)  # a wrong name is said before there is work
    found, left_out = read_each(runs, evaluated, models=True)
    for line in left_out:
        typer.echo(line, err=True)
    if as_json:
        print_json(found)


def _as_dict(request: "TrialRequest", evaluation: "Evaluation") -> dict[str, Any]:
    return {
        "model": str(request.path),
        "algorithm": request.agent,
        "env": request.env_id,
        "seed": request.seed,
        "episodes": request.episodes,
        "mean_return": float(evaluation.returns.mean()),
        "std_return": float(evaluation.returns.std()),
        "success_rate": evaluation.success_rate,
        "mean_length": float(evaluation.lengths.mean()),
        "returns": evaluation.returns.tolist(),
        "lengths": evaluation.lengths.tolist(),
    }

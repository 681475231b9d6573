"""`pyrl demo`."""

from pathlib import Path

import typer

from pyrl_sb3.cli import options, output

_FOLDER = Path("demo")


def add_command(app: typer.Typer) -> None:
    """Add the demonstration."""
    app.command(
        "demo",
        help="Train HER + SAC on FetchReach-v4 in about a minute, draw its learning curve and "
        "film the agent.",
        short_help="Watch a robot arm learn to reach, in about a minute.",
        epilog="Examples:  pyrl demo   |   pyrl demo --seed 3 --save elsewhere",
    )(_demo)


def _demo(
    seed: options.DemoSeed = 0,
    save: options.DemoSave = _FOLDER,
    threads: options.Threads = None,
    verbose: options.Verbose = False,
) -> int:
    from pyrl_sb3.report.demo import SOLVED, run_demo

    console = output.console_for_log()
    result = run_demo(save, seed, threads, console)
    if result.evaluation is None:
        return output.say_stopped(console, result.training)
    solved = (result.evaluation.success_rate or 0.0) >= SOLVED
    console.print("solved" if solved else f"not solved: success rate below {SOLVED}")
    return 0 if solved else 1

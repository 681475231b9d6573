"""`pyrl demos record ENV`."""

from pathlib import Path
from typing import Annotated

import typer

from pyrl_sb3.cli import options, output
from pyrl_sb3.errors import counted

app = typer.Typer(
    name="demos",
    help="Record demonstrations to learn from.",
    rich_markup_mode=None,
)

Policy = Annotated[
    str,
    typer.Option(
        metavar="scripted|RUN", help="A script written for the task, or the folder of a run."
    ),
]
Count = Annotated[int, typer.Option(metavar="N", help="Episodes to record.")]
Out = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Where to [default: ENV-demos.npz].")
]
Failures = Annotated[
    bool, typer.Option("--failures", help="Also keep episodes that do not end in success.")
]


@app.command(
    epilog="Examples:  pyrl demos record FetchPickAndPlace-v4 --out demos.npz   |   "
    "pyrl demos record Pendulum-v1 --policy sac/Pendulum-v1_1   |   "
    "pyrl her-td3-train FetchPickAndPlace-v4 --demos demos.npz"
)
def record(
    env: options.EnvId,
    policy: Policy = "scripted",
    episodes: Count = 100,
    out: Out = None,
    seed: options.TestSeed = 0,
    failures: Failures = False,
    trust: options.Trust = False,
    verbose: options.Verbose = False,
) -> None:
    """Record episodes in ENV and print how many of them succeed."""
    from pyrl_sb3.training.demos import record as run
    from pyrl_sb3.training.progress import episodes_bar

    console = output.console_for_log()
    out = out or Path(f"{env.replace('/', '-')}-demos.npz")
    with episodes_bar(console, episodes) as shown:
        recording = run(
            *(env, policy, out),
            episodes=episodes,
            seed=seed,
            failures=failures,
            trust=trust,
            each_step=shown,
        )
    if recording.success_rate is not None:
        console.print(
            f"success rate {recording.success_rate:.2f} over {counted(episodes, 'episode')}"
        )
    kept, steps = counted(recording.kept, "episode"), counted(recording.steps, "step")
    console.print(f"written: {out}, {kept}, {steps}", markup=False)

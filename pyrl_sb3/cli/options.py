"""The options and arguments that commands share, each written once."""

from pathlib import Path
from typing import Annotated

import typer

from pyrl_sb3.cli.json_output import keep_stdout


def _env_ids(incomplete: str) -> list[str]:
    """What Tab offers; Gymnasium's registry is only loaded for that."""
    from pyrl_sb3.training.environments import newest_ids, register_installed

    register_installed()
    return [env_id for env_id in newest_ids() if env_id.startswith(incomplete)]


EnvId = Annotated[
    str,
    typer.Argument(
        metavar="ENV", help="Gymnasium id, such as BipedalWalker-v3.", autocompletion=_env_ids
    ),
]
EnvIdOrResume = Annotated[
    str | None,
    typer.Argument(
        metavar="ENV",
        help="Gymnasium id, such as BipedalWalker-v3; not needed with --resume.",
        autocompletion=_env_ids,
    ),
]
Timesteps = Annotated[
    int | None,
    typer.Option(metavar="N", help="Environment steps to train for [default: tuned per ENV]."),
]
Seed = Annotated[
    int | None, typer.Option(metavar="N", help="Seed of everything random [default: drawn].")
]
TestSeed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the environment.")]
DemoSeed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of everything random.")]
DemoSave = Annotated[Path, typer.Option("--save", metavar="FOLDER", help="Where all is written.")]
Seeds = Annotated[
    str | None,
    typer.Option(
        metavar="N|LIST",
        help="Train several seeds, each in its own process: 10 for ten of them, counted from "
        "--seed or from 0, or 3,7,11 for these three.",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Seeds that train at a time; with --threads each they never exceed the cores "
        "[default: one on each core]. Not with --sync, where all do.",
    ),
]
RunFolder = Annotated[Path | None, typer.Option(metavar="FOLDER", hidden=True)]
Save = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Where the run's folder is made [default: named for the algorithm]."
    ),
]
LogDir = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Where folders for algorithms, with folders for runs, are made."
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Hyperparameters in RL Zoo's YAML [default: our own]."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One value of the config, such as policy_kwargs.net_arch=[256,256]; may be repeated.",
    ),
]
Noise = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Exploration noise, such as ou_0.2 or none; see `pyrl list noises`."
    ),
]
Buffer = Annotated[
    str | None, typer.Option(metavar="NAME", help="Replay buffer; see `pyrl list buffers`.")
]
Demos = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Demonstrations to learn from, of `pyrl demos record`, or minari:NAME.",
    ),
]
TrainedAgent = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        help="Begin with the agent of another run, or of a model's file: its networks, temperature "
        "and statistics of observations.",
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run code that the config names, Python or any package, or that the trained agent "
        "holds.",
    ),
]
NEnvs = Annotated[
    int | None,
    typer.Option(metavar="N", help="Environments side by side [default: as in the config, or 1]."),
]
VecEnv = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="dummy: environments step one after another; subproc: at the same time, each in a "
        "process of its own [default: dummy].",
    ),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.")]
EvalEpisodes = Annotated[
    int | None, typer.Option(metavar="N", help="Episodes of each evaluation [default: 10].")
]
EvalFreq = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Environment steps between evaluations, 0 for none but the last "
        "[default: a twentieth of the run, at least 500].",
    ),
]


def _threads(text: str) -> int | None:
    try:
        return None if text == "auto" else int(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a valid integer, nor auto.") from error


Threads = Annotated[
    int | None,
    typer.Option(
        parser=_threads,
        metavar="N",
        help="PyTorch's threads; auto, the default, takes OMP_NUM_THREADS, or the cores up to 4; "
        "of --seeds each takes its share of the cores.",
    ),
]
SaveFreq = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Environment steps between checkpoints, 0 for none unless the run is stopped "
        "[default: a tenth of the run, at least 10000].",
    ),
]
KeepLast = Annotated[int | None, typer.Option(metavar="N", help="Checkpoints kept [default: 2].")]
Exact = Annotated[
    bool | None,
    typer.Option(
        "--exact/--no-exact",
        help="Whether environments are reset at checkpoints, so that a run that was killed and "
        "resumed ends as it would have otherwise, bit for bit [default: exact].",
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        help="Go on with the run, or with what is unfinished of the seeds, in this folder; "
        "--timesteps is then what each is to have in all.",
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What runs the processes of --seeds; see `pyrl list engines` [default: processes, "
        "those of this machine].",
    ),
]
Sync = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Synchronise the seeds, as copies of one agent, such as by mean; "
        "see `pyrl list sync`. Parameters: --set sync.params.NAME=VALUE.",
    ),
]
SyncEvery = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Environment steps of a copy between synchronisations [default: 1000]."
    ),
]
ShareReplay = Annotated[
    bool,
    typer.Option("--share-replay", help="With --sync: copies also learn from each other's steps."),
]
Stock = Annotated[
    bool, typer.Option("--stock", help="Run SB3's algorithm, with the policy and buffer from here.")
]
TrustFiles = Annotated[
    bool,
    typer.Option(
        "--trust", help="Run code that the model, its statistics or the config hold or name."
    ),
]
Pretrained = Annotated[
    bool, typer.Option("--pretrained", help="Take the model that comes with the package, if any.")
]
Best = Annotated[
    bool, typer.Option("--best", help="Take the best model of the evaluations, not the last.")
]
Json = Annotated[bool, typer.Option("--json", callback=keep_stdout, help="Print JSON.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a model in it.")]
VERBOSE = "verbose"  # in the object of contexts


def _note_verbose(context: typer.Context, wanted: bool) -> bool:
    context.ensure_object(dict)[VERBOSE] = wanted
    return wanted


# It is for `app.run`, which makes lines of errors; commands themselves do not ask for it. Eager,
# since other options may be in error.
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        callback=_note_verbose,
        is_eager=True,
        help="Show where an error comes from.",
    ),
]
ModelPath = Annotated[
    Path | None,
    typer.Argument(
        metavar="[PATH]",
        help="A model, a run's folder, or a folder of runs; without it the latest run of ENV.",
    ),
]
Episodes = Annotated[int, typer.Option(metavar="N", help="Episodes to run.")]
Render = Annotated[bool, typer.Option("--render", help="Show the agent in a window.")]
Gif = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Film the first episodes into a GIF.")
]

"""`pyrl sac-train ENV` and its siblings."""

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pyrl_sb3.cli import options, output, sync_options
from pyrl_sb3.cli.stated import Asked, request_of
from pyrl_sb3.training.agents import AGENTS, NamedAgent
from pyrl_sb3.training.folders import is_group
from pyrl_sb3.training.missing import naming_packages
from pyrl_sb3.training.request import TrainingRequest

if TYPE_CHECKING:
    from rich.console import Console
    from stable_baselines3.common.callbacks import BaseCallback

    from pyrl_sb3.training.request import TrainingResult

_EXAMPLES = {
    "sac": "Pendulum-v1",
    "td3": "HalfCheetah-v5",
    "ddpg": "BipedalWalker-v3",
    "her-sac": "FetchReach-v4",
    "her-td3": "FetchReach-v4",
    "her-ddpg": "FetchPush-v4",
    "dqn": "CartPole-v1",
    "qrdqn": "LunarLander-v3",
    "sac-discrete": "LunarLander-v3",
}
_ATTRIBUTES = {each.name for each in fields(TrainingRequest)}


def example_env(agent: NamedAgent) -> str:
    """An environment that the agent fits."""
    if agent.discrete:
        other = "BitFlipping-v0" if agent.needs_goal else "CartPole-v1"
    else:
        other = "FetchReach-v4" if agent.needs_goal else "Pendulum-v1"
    return _EXAMPLES.get(agent.name, other)


def add_commands(app: typer.Typer, agents: Iterable[NamedAgent] = AGENTS.values()) -> None:
    """Add one training command for each agent."""
    for agent in agents:
        env = example_env(agent)
        example = f"pyrl {agent.name}-train {env}"
        app.command(
            f"{agent.name}-train",
            help=f"Train {agent.title} in ENV and save it under {agent.name}/ENV_1, ENV_2, ...",
            short_help=f"Train {agent.title}.",
            epilog=f"Examples:  {example}   |   {example} --timesteps 20000 --seed 1 --n-envs 4"
            f"   |   {example} --seeds 10 --jobs 2"
            f"   |   pyrl {agent.name}-train --resume {agent.name}/{env}_1",
        )(_command(agent))


def _command(agent: NamedAgent):  # type: ignore[no-untyped-def]  # typer reads the inner signature
    def train(
        env: options.EnvIdOrResume = None,
        timesteps: options.Timesteps = None,
        seed: options.Seed = None,
        seeds: options.Seeds = None,
        jobs: options.Jobs = None,
        engine: options.Engine = None,
        save: options.Save = None,
        log_dir: options.LogDir = None,
        config: options.Config = None,
        overrides: options.Overrides = None,
        noise: options.Noise = None,
        buffer: options.Buffer = None,
        demos: options.Demos = None,
        trained_agent: options.TrainedAgent = None,
        trust: options.Trust = False,
        n_envs: options.NEnvs = None,
        vec_env: options.VecEnv = None,
        device: options.Device = "auto",
        eval_episodes: options.EvalEpisodes = None,
        eval_freq: options.EvalFreq = None,
        save_freq: options.SaveFreq = None,
        keep_last: options.KeepLast = None,
        exact: options.Exact = None,
        resume: options.Resume = None,
        sync: options.Sync = None,
        sync_every: options.SyncEvery = None,
        share_replay: options.ShareReplay = False,
        threads: options.Threads = None,
        stock: options.Stock = False,
        verbose: options.Verbose = False,
        run_folder: options.RunFolder = None,
    ) -> int:
        given = _given(agent, locals())
        asked = Asked(
            agent=agent, given=given, resume=resume, seeds=seeds, jobs=jobs, engine=engine
        )
        with naming_packages(resume):
            plan = sync_options.wanted(sync, sync_every, share_replay, given, resume)
            return _train(asked, plan)

    return train


def _given(agent: NamedAgent, said: Mapping[str, Any]) -> dict[str, Any]:
    """
    What is said of a `TrainingRequest`, without what is left open.

    :param said: All options by name, which mostly is that of the attribute.
    """
    given = {
        "env_id": said["env"],  # first: of several that a run was not begun with, it is named
        **said,
        "agent": agent.name,
        "save": _place(agent, said["save"], said["log_dir"]),
        "folder": said["run_folder"],
        "overrides": (*(said["overrides"] or ()), *_demonstrations(said["demos"])) or None,
        "device": None if said["device"] == "auto" else said["device"],
        "trust": said["trust"] or None,
        "stock": said["stock"] or None,
    }
    return {
        name: value for name, value in given.items() if name in _ATTRIBUTES and value is not None
    }


def _train(asked: Asked, plan: Mapping[str, Any] | None) -> int:
    """Train one run, several seeds, or copies that a plan synchronises."""
    if plan is not None:
        from pyrl_sb3.cli import synchronised

        given = sync_options.without_settings(asked.given)
        return synchronised.run(replace(asked, given=given, plan=plan))
    if asked.seeds is not None or (asked.resume is not None and is_group(asked.resume)):
        return _run_seeds(asked)
    _refuse_without_seeds(engine=asked.engine, jobs=asked.jobs)
    return _run(asked)


def _refuse_without_seeds(**given: str | int | None) -> None:
    for name, value in given.items():
        if value is not None:
            raise typer.BadParameter(f"--{name} {value} needs --seeds: a single run is one process")


def _place(agent: NamedAgent, save: Path | None, log_dir: Path | None) -> Path | None:
    if save and log_dir:
        raise typer.BadParameter("--save and --log-dir both say where; give one of them")
    return log_dir / agent.name if log_dir else save


def _demonstrations(source: str | None) -> tuple[str, ...]:
    """`--demos` as the setting it stands for, with a path that holds wherever a run is resumed."""
    if source is None:
        return ()
    path = source if source.startswith("minari:") else str(Path(source).absolute())
    return (f"demonstrations={json.dumps(path)}",)


def _run_seeds(asked: Asked) -> int:
    from pyrl_sb3.training import engines

    if asked.resume is None:
        with closing(engines.engine(asked.engine or engines.PROCESSES)) as runs:
            # Now, since the engine imports the same: at the same time.
            from pyrl_sb3.cli.seeds import train_seeds

            return train_seeds(asked, runs)
    if not is_group(asked.resume):
        from pyrl_sb3.training.facts import check_run

        check_run(asked.resume)
        message = f"--seeds {asked.seeds}: {asked.resume} is a single run; leave it out"
        raise typer.BadParameter(message)
    from pyrl_sb3.cli.seeds import go_on_with_seeds

    return go_on_with_seeds(asked, asked.resume)


def _run(asked: Asked) -> int:
    """Train, or go on training, and say what came of it."""
    from pyrl_sb3.training import resume as resuming
    from pyrl_sb3.training.progress import PROGRESS_FILE, ProgressFile, ProgressReport
    from pyrl_sb3.training.run import train

    given, resume = asked.given, asked.resume
    console = output.console_for_log()
    shown = ProgressReport(console)
    callbacks: list[BaseCallback] = [shown]
    folder = resume or given.get("folder")
    if folder is not None and is_group(folder.parent):
        callbacks.append(ProgressFile(folder / PROGRESS_FILE))
    with closing(shown):
        if resume is not None:
            resuming.refuse_changes(resume, given)
            changes = resuming.changes_in(given)
            result = resuming.resume(resume, **changes, callbacks=callbacks)
        else:
            result = train(request_of(given), callbacks)
    return _say(console, asked.agent, result, trust=given.get("trust", False))


def _say(console: "Console", agent: NamedAgent, result: "TrainingResult", *, trust: bool) -> int:
    if result.stopped_by:
        code = output.say_stopped(console, result)
        output.say_how_to_go_on(console, agent.name, result.folder, trust=trust)
        return code
    if result.evaluation:
        console.print(f"final evaluation: {result.evaluation}")
    console.print(f"model saved: {result.model}", markup=False)
    output.say_how_to_test(console, agent.name, result.env_id, result.folder, trust=trust)
    return 0

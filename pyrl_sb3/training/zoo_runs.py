"""What RL Zoo keeps of a run, for its agent to act as it did there (as the zoo's `enjoy` does)."""

import logging
from pathlib import Path

from pyrl_sb3.config.documents import read_document
from pyrl_sb3.config.overrides import Override
from pyrl_sb3.training.agents import AGENTS
from pyrl_sb3.training.command_line import quoted
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.folders import zoo_settings
from pyrl_sb3.training.hyperparams import CONFIG

log = logging.getLogger("pyrl_sb3")

_ARGUMENTS = "args.yml"


def say_what_is_used(settings: Path) -> None:
    """Name the files in the folder of a run's settings that are followed."""
    names = (_ARGUMENTS, CONFIG, "vecnormalize.pkl")
    there = ", ".join(name for name in names if (settings / name).is_file())
    log.info("a run of RL Zoo, with what is in %s/: %s", settings, there)


def environment_asked_for(settings: Path) -> list[Override]:
    """
    Return the arguments of the environment that the zoo's command line had, if any.

    Raises:
        ConfigError: they cannot be read without running code.
        InputError: the file is no mapping.
    """
    path = settings / _ARGUMENTS
    if not path.is_file():
        return []
    asked = read_document(path).data
    if not isinstance(asked, dict):
        raise InputError(f"{path}: must map the options of a command to their values")
    if asked.get("eval_env_kwargs"):
        log.info("%s: eval_env_kwargs are not used; the agent acts as in training", path)
    given = asked.get("env_kwargs")
    return [] if given is None else [Override(("env_kwargs",), given, f"{path}: env_kwargs")]


def refuse_zoo_runs(folder: Path) -> None:
    """Raise InputError, saying what can be done, where a folder is of a run, or runs, of RL Zoo."""
    for run in (folder, folder.parent, *sorted(folder.iterdir())):
        if settings := zoo_settings(run):
            algorithm = run.absolute().parent.name
            agent, env = algorithm if algorithm in AGENTS else "ALGO", settings.name
            config = quoted(settings / CONFIG)
            raise InputError(
                f"{run} is a run of RL Zoo, without run.yml: `pyrl {agent}-test {env} "
                f"{quoted(run)}` tries its agent, `pyrl {agent}-train {env} --config {config}` "
                "trains another with its settings"
            )

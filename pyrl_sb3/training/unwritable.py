"""Objects of configs in Python, of which a run's own config has only text: what cannot be done."""

import logging
from pathlib import Path
from typing import Any

from pyrl_sb3.config import Experiment
from pyrl_sb3.errors import short
from pyrl_sb3.training.errors import InputError, damage
from pyrl_sb3.training.facts import FACTS, Facts, read_written
from pyrl_sb3.training.hyperparams import CONFIG

log = logging.getLogger("pyrl_sb3")

# What environments are made of: without it an agent would be tried out in others.
_OF_ENVIRONMENTS = (
    *("env_kwargs", "env_wrapper", "vec_env_wrapper"),
    *("frame_stack", "monitor_kwargs", "normalize"),
)


def say_unwritable(experiment: Experiment) -> None:
    """Say what the config of a run that begins cannot hold, and what it will not do."""
    unwritable = experiment.unwritable()
    if not unwritable:
        return
    tested = [key for key in unwritable if key in _OF_ENVIRONMENTS]
    first, *_ = unwritable[(tested or [*unwritable])[0]]
    log.warning(
        "%s is of a Python file, and %s cannot hold it: %s will refuse this run",
        short(first),
        CONFIG,
        "--resume and tests" if tested else "--resume",
    )


def refuse_unwritable(folder: Path, facts: Facts) -> None:
    """Raise InputError where the config of a run could not hold all that it was begun with."""
    for key, value in facts.unwritable.items():
        raise _refusal(f"{folder} cannot go on", key, value, facts.request.config)


def unwritable_of_the_training(folder: Path) -> list[str]:
    """
    Return the keys whose values the config of a run could not hold; none where nothing tells.

    Raises:
        InputError: environments were made of some, or what tells of them cannot be read.
    """
    path = folder / FACTS
    if not path.is_file():
        return []
    try:
        # The rest of it may be of a newer version.
        facts = read_written(path)
        unwritable = dict(facts.get("unwritable", {}))
    except Exception as error:  # whatever reading a damaged file comes to
        raise InputError(f"{path} cannot be read as a run's: {damage(error)}") from error
    for key in _OF_ENVIRONMENTS:
        if key in unwritable:
            raise _refusal(f"{folder} cannot be tried out", key, unwritable[key], "a Python file")
    return [*unwritable]


def _refusal(what: str, key: str, value: Any, source: object) -> InputError:
    return InputError(
        f"{what}: {key} has {short(value)} of {source}, which {CONFIG} cannot hold; begin a new "
        "run with text, numbers, and classes that can be imported, their arguments beside them"
    )

"""Objects of configs in Python, of which a run's own config has only text: where they come from."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyrl_sb3.config import Experiment
from pyrl_sb3.config.overrides import LEFT_OUT, Override
from pyrl_sb3.errors import short
from pyrl_sb3.training.errors import InputError, damage
from pyrl_sb3.training.facts import FACTS, Facts, read_written, request_from
from pyrl_sb3.training.hyperparams import CONFIG
from pyrl_sb3.training.python_configs import find_modules_beside, found_again
from pyrl_sb3.training.request import TrainingRequest

log = logging.getLogger("pyrl_sb3")

# What environments are made of: without it an agent would be tried out in others.
_OF_ENVIRONMENTS = (
    *("env_kwargs", "env_wrapper", "vec_env_wrapper"),
    *("frame_stack", "monitor_kwargs", "normalize"),
)


def say_unwritable(experiment: Experiment) -> None:
    """Say what the config of a run that begins cannot hold, and what is needed besides it."""
    unwritable = experiment.unwritable()
    if not unwritable:
        return
    tested = [key for key in unwritable if key in _OF_ENVIRONMENTS]
    first, *_ = unwritable[(tested or [*unwritable])[0]]
    log.warning(
        "%s is of a Python file, and %s cannot hold it: %s that file as it is now, and --trust",
        short(first),
        CONFIG,
        "--resume and tests need" if tested else "--resume needs",
    )


def as_it_was_begun(folder: Path, facts: Facts, request: TrainingRequest) -> TrainingRequest:
    """
    Return the request by which a run goes on: with its Python file where its config lacks objects.

    Args:
        folder: of the run.
        facts: what it was.
        request: by which it goes on with the config in its folder.

    Raises:
        InputError: that file is not there as it was, or is not trusted.
    """
    if request.trust:
        find_modules_beside(facts.request.config)
    if not facts.unwritable:
        return request
    was, what = facts.request, f"{folder} cannot go on"
    config = _again(what, facts.unwritable, was.config, facts.config_sha256, trust=request.trust)
    same = {name: getattr(was, name) for name in ("overrides", "noise", "buffer")}
    return replace(request, config=config, **same)


def refuse_others(facts: Facts, experiment: Experiment, source: Path | None) -> None:
    """Raise InputError where a Python file has now other values than a run was begun with."""
    if not facts.unwritable:
        return
    # Of environments side by side a request tells, the config need not.
    was, now = (
        {key: value for key, value in each.items() if key != "n_envs"}
        for each in (facts.hyperparameters or {}, experiment.given)
    )
    if not replace(experiment, given=now).may_have_been(was):
        raise InputError(
            f"{source} has other values than the run was begun with, though it is the same: it "
            f"depends on something else; {CONFIG} has those of then"
        )


def request_for_trials(run: Path, *, trust: bool) -> tuple[TrainingRequest | None, list[Override]]:
    """
    Return the request of a run whose environments need its Python file, and what to change else.

    Of the training's objects, which the config of the run has as text, no trial needs any.

    Args:
        run: its folder.
        trust: run the Python file that it was begun with.

    Raises:
        InputError: that is needed, and not there as it was, or not trusted; or what tells of it
            cannot be read.
    """
    path = run / FACTS
    if not path.is_file():
        return None, []
    try:
        # The rest of it may be of a newer version.
        facts = read_written(path)
        if trust:
            _find_modules(facts)
        unwritable = dict(facts.get("unwritable", {}))
        lacking = {key: unwritable[key] for key in _OF_ENVIRONMENTS if key in unwritable}
        was = request_from(facts["request"]) if lacking else None
    except Exception as error:  # whatever reading a damaged file comes to
        raise InputError(f"{path} cannot be read as a run's: {damage(error)}") from error
    if was is None:
        return None, [Override((key,), LEFT_OUT) for key in unwritable]
    what, digest = f"{run} cannot be tried out", str(facts.get("config_sha256", ""))
    config = _again(what, lacking, was.config, digest, trust=trust)
    return replace(was, config=config), []


def find_modules_of(run: Path) -> None:
    """Have what lies beside the Python config of a trusted run found, also for its model."""
    with suppress(Exception):  # of what cannot be read others tell
        _find_modules(read_written(run / FACTS))


def _find_modules(facts: Mapping[str, Any]) -> None:
    with suppress(Exception):  # where it has no config, or what is none
        find_modules_beside(Path(facts["request"]["config"]))


def _again(
    what: str, lacking: Mapping[str, Any], given: Path | None, digest: str, *, trust: bool
) -> Path:
    (key, value), *_ = lacking.items()
    lacks = f"{what}: {key} has {short(value)} of {given or 'a Python file'}, which {CONFIG}"
    config = None if given is None else found_again(given, digest)
    if config is None:
        raise InputError(
            f"{lacks} cannot hold, and which is not there as it was, nor here; put it back, or "
            "begin a new run with text, numbers, and classes that can be imported, their arguments "
            "beside them"
        )
    if not trust:
        raise InputError(f"{lacks} cannot hold; pass --trust to have that file run once more")
    return config

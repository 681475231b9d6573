"""From what a command line states to the `TrainingRequest` that it asks for."""

from collections.abc import Mapping
from typing import Any

from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.request import TrainingRequest


def stated(**values: Any) -> dict[str, Any]:
    """Return what is said of a `TrainingRequest`: what is None, the command line leaves open."""
    return {name: value for name, value in values.items() if value is not None}


def request_of(given: Mapping[str, Any], **changes: Any) -> TrainingRequest:
    """
    Return what is asked for.

    Args:
        given: what `stated` returned.
        changes: attributes with another value.

    Raises:
        InputError: no environment is named, or a number is none that can be.
    """
    if "env_id" not in given:
        raise InputError("Missing argument 'ENV': the environment, or --resume RUN")
    return TrainingRequest(**{**given, **changes})


def request_of_several(given: Mapping[str, Any], **changes: Any) -> TrainingRequest:
    """Return the same for several processes, which may start, or go on, in another folder."""
    if "config" in given:
        changes["config"] = given["config"].absolute()
    return request_of(given, **changes)

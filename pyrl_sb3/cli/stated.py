"""What the command line of a training states, and the `TrainingRequest` that it asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyrl_sb3.training.agents import NamedAgent
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.request import TrainingRequest


@dataclass(frozen=True, kw_only=True)
class Asked:
    """
    What a command line says.

    Attributes:
        agent: that learns.
        given: of a `TrainingRequest`, without what is left open.
        resume: the folder of a run, or of several seeds, to go on with.
        seeds: as `parse_seeds` takes them.
        jobs: processes at a time.
        engine: what runs them.
        plan: of a `SyncPlan`; synchronised copies alone have one.
    """

    agent: NamedAgent
    given: Mapping[str, Any]
    resume: Path | None
    seeds: str | None
    jobs: int | None
    engine: str | None
    plan: Mapping[str, Any] = field(default_factory=dict)


def request_of(given: Mapping[str, Any], **changes: Any) -> TrainingRequest:
    """
    Return what is asked for, with these changes.

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

"""Agents that come with the package: `pretrained/<agent>/<environment>/`, as runs have them."""

from pathlib import Path

import pyrl_sb3
from pyrl_sb3.errors import did_you_mean
from pyrl_sb3.training.environments import env_spec
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.folders import MODEL

FOLDER = Path(pyrl_sb3.__file__).parent / "pretrained"


def pretrained(agent: str, env_id: str) -> Path:
    """
    Return the model of an agent that comes with the package, in a folder as runs have.

    Args:
        agent: a name in `AGENTS`.
        env_id: a Gymnasium id; without a version it means the newest.

    Raises:
        InputError: there is none; names those that there are.
    """
    wanted = f"{agent} {env_spec(env_id).id}"
    models = FOLDER.glob(f"*/*/{MODEL}")
    there = {f"{path.parent.parent.name} {path.parent.name}": path for path in sorted(models)}
    if wanted not in there:
        raise InputError(
            f"--pretrained: no {wanted} among {', '.join(there)}{did_you_mean(wanted, there)}"
        )
    return there[wanted]

"""How episodes end."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyrl_sb3.buffers.table import Array

RUNNING, TERMINATED, TRUNCATED, CUT = range(4)
"""How an episode ended. CUT: the environment was reset before the episode was over."""


UNMARKED = (
    "an episode ended without 'TimeLimit.truncated' in its info: "
    "it is taken to be over for good, even if it only ran out of time"
)


def all_marked(done: Array, infos: Sequence[dict[str, Any]]) -> bool:
    """Whether every end says if it is a truncation; where not, `UNMARKED` is what to warn of."""
    return all("TimeLimit.truncated" in infos[env] for env in done.nonzero()[0].tolist())


def end_codes(done: Array, infos: Sequence[dict[str, Any]]) -> Array:
    """How each environment's step ended its episode, `(n_envs,)`."""
    ends = np.zeros(len(infos), np.int8)  # RUNNING
    for env in done.nonzero()[0].tolist():
        ends[env] = TRUNCATED if infos[env].get("TimeLimit.truncated") else TERMINATED
    return ends

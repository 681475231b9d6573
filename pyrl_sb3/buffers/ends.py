"""How episodes end."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyrl_sb3.buffers.table import Array

# How an episode ended. CUT: the environment was reset before the episode was over.
RUNNING, TERMINATED, TRUNCATED, CUT = range(4)

UNMARKED = (
    "an episode ended without 'TimeLimit.truncated' in its info: "
    "it is taken to be over for good, even if it only ran out of time"
)


def final_ends(timeouts: bool) -> Array:
    """By end code, whether nothing comes after it; `timeouts`: something does after those."""
    final = np.zeros(4, bool)
    final[[TERMINATED, TRUNCATED]] = True, not timeouts
    return final


def end_codes(done: Any, infos: Sequence[dict[str, Any]]) -> tuple[Array, bool]:
    """How each environment's step ended its episode, `(n_envs,)`, and whether every end says if it
    is a truncation; where not, `UNMARKED` is what to warn of.

    :param done: of each environment, or one for all, as SB3's arrays take it
    :raises ValueError: it is of another number of environments than the infos
    """
    done = np.asarray(done)
    if done.shape != (len(infos),):
        done = np.broadcast_to(done.ravel(), len(infos))
    ends, marked = np.zeros(len(infos), np.int8), True  # RUNNING
    for env in done.nonzero()[0].tolist():
        ends[env] = TRUNCATED if infos[env].get("TimeLimit.truncated") else TERMINATED
        marked = marked and "TimeLimit.truncated" in infos[env]
    return ends, marked

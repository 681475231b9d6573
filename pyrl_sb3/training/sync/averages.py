"""
Means of the states of copies.

Numbers are added in float64 as differences to the first copy's: copies that are equal stay what
they are to the bit.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrl_sb3.training.sync.state import AgentState, Arrays


def combined(states: Sequence[AgentState], weights: Sequence[float]) -> AgentState:
    """
    Return a weighted mean of states, of which there is at least one; the weights sum to 1.

    Of counts it has the greatest: Adam's correction of a bias that is gone must not come back.
    """
    first = states[0]
    averaged = {
        part: {
            name: _average([getattr(state, part)[name] for state in states], weights[1:])
            for name in getattr(first, part)
        }
        for part in ("weights", "running", "moments")
    }
    counts = {
        name: np.asarray(np.max([state.counts[name] for state in states], axis=0))
        for name in first.counts
    }
    return AgentState(**averaged, counts=counts)


def towards(these: Arrays, those: Arrays, part: float) -> dict[str, NDArray[Any]]:
    """Return arrays that are a part of the way from these to those: 0 is none of it, 1 all."""
    return {name: _average([here, those[name]], [part]) for name, here in these.items()}


def _average(arrays: Sequence[NDArray[Any]], weights: Sequence[float]) -> NDArray[Any]:
    """The weights are of all but the first, which has what is left of 1."""
    base = arrays[0].astype(np.float64)
    change = sum(w * (array - base) for w, array in zip(weights, arrays[1:], strict=True))
    return np.asarray(base + change).astype(arrays[0].dtype)

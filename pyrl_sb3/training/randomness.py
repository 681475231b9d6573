"""The states of everything random that is not owned by an object of ours."""

import random
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

from pyrl_sb3.training.state import Tree, capture, restore


def random_states(*owned: spaces.Space[Any]) -> Tree:
    """Capture the global generators of Python, numpy and PyTorch, and those of spaces."""
    return {
        "python": capture(random.getstate()),
        "numpy": capture(np.random.get_state(legacy=False)),
        "torch": th.get_rng_state().numpy(),
        "cuda": [state.numpy() for state in th.cuda.get_rng_state_all()],
        "spaces": [capture(space.np_random) for space in owned],
    }


def restore_random_states(tree: Tree, *owned: spaces.Space[Any]) -> None:
    """Put them back; the states of GPUs only where there are as many as there were."""
    random.setstate(restore(tree["python"], None))
    np.random.set_state(restore(tree["numpy"], None))
    th.set_rng_state(th.from_numpy(tree["torch"]))
    if len(tree["cuda"]) == th.cuda.device_count():
        th.cuda.set_rng_state_all([th.from_numpy(state) for state in tree["cuda"]])
    for state, space in zip(tree["spaces"], owned, strict=True):
        restore(state, space.np_random)

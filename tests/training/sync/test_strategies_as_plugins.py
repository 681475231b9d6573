"""The kit that plugins are checked with, run on the built-in strategies."""

import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback

from pyrl_sb3.testing import check_sync_callback
from pyrl_sb3.training.sync.strategies import STRATEGIES

# The others' processes take long together, and are run with the learning tests.
SOON = ("mean", "best", "outer")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in SOON else pytest.mark.learning) for n in STRATEGIES],
)
def test_kit(name):
    check_sync_callback(f"pyrl/{name}", {"patience": 1} if name == "best" else {})


@pytest.mark.parametrize("name", ["mean", pytest.param("elastic", marks=pytest.mark.learning)])
def test_kit_with_shared_replay(name):
    check_sync_callback(f"pyrl/{name}", {"share_replay": True})


class Uneven(BaseCallback):
    """Exchanges an array whose shape is each copy's own."""

    def __init__(self, context):
        super().__init__()
        self.group = context.group

    def _on_step(self):
        if self.group.size > 1:
            self.group.all_gather({"a": np.zeros(1 + self.group.rank)})
        return True


def test_kit_says_that_copies_exchange_different_arrays():
    with pytest.raises(AssertionError, match="copies exchange different arrays"):
        check_sync_callback(f"{__name__}:Uneven")

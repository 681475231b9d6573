"""The kit that plugins are checked with, run on the built-in strategies."""

import pytest

from pyrl_sb3.testing import check_sync_callback
from pyrl_sb3.training.sync.strategies import STRATEGIES


@pytest.mark.parametrize("name", STRATEGIES)
def test_kit(name):
    check_sync_callback(f"pyrl/{name}", {"patience": 1} if name == "best" else {})


@pytest.mark.parametrize("name", ["mean", "elastic"])
def test_kit_with_shared_replay(name):
    check_sync_callback(f"pyrl/{name}", {"share_replay": True})

"""What algorithms say that they serve is tried."""

import pytest
import stable_baselines3

import pyrl_sb3
from pyrl_sb3.testing.agents import AgentCase
from pyrl_sb3.testing.served import check_serves

BOTH = ("priority-updates", "importance-weights")


@pytest.mark.parametrize("cls", [pyrl_sb3.TD3, pyrl_sb3.SAC])
def test_ours_serve_prioritised_buffers(cls):
    check_serves(AgentCase(cls=cls), BOTH)


@pytest.mark.parametrize("need", BOTH)
def test_needs_that_are_not_served_are_named(need):
    case = AgentCase(cls=stable_baselines3.TD3)
    check_serves(case, ["env"])
    with pytest.raises(AssertionError, match=f"serves {need}, but "):
        check_serves(case, ["env", need])

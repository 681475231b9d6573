"""FetchReach is solved by the three HER commands with their default settings."""

import pytest

from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.run import train
from pyrl_sb3.training.trial import TrialRequest, try_out

pytestmark = pytest.mark.learning


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("agent", ["her-sac", "her-td3", "her-ddpg"])
def test_solved_within_5000_steps(tmp_path, agent, seed):
    request = TrainingRequest(
        agent=agent, env_id="FetchReach-v4", seed=seed, save=tmp_path, eval_freq=0, threads=1
    )
    result = train(request)
    assert result.timesteps <= 5000
    trial = TrialRequest(
        agent=agent, env_id="FetchReach-v4", path=result.model, episodes=50, seed=1000
    )
    assert try_out(trial).success_rate >= 0.95

"""Every entry of the zoo's files whose environment is installed starts, and trains."""

from functools import partial
from pathlib import Path

import pytest
import yaml
from stable_baselines3.common.vec_env import VecNormalize

from pyrl_sb3.config import ConfigError, read_experiment
from pyrl_sb3.training.agents import AGENTS
from pyrl_sb3.training.environments import newest_ids, register_installed, vector_env
from pyrl_sb3.training.models import build_model

ZOO = Path(__file__).parents[1] / "config" / "zoo"
# Small enough to be quick, long enough for a gradient step of those that train every 64 steps.
STEPS = 66
SMALL = ("learning_starts=60", "buffer_size=2000", "batch_size=16", "gradient_steps=1")


def newest_version(entry: str) -> str | None:
    """The entry's environment as it is called today; None where it is not installed."""
    name = entry.rpartition("-v")[0]
    return next((env_id for env_id in newest_ids() if env_id.rpartition("-v")[0] == name), None)


def entries() -> list[tuple[str, str, str]]:
    register_installed()
    return [
        (file.stem, entry, env_id)
        for file in sorted(ZOO.glob("*.yml"))
        for entry in yaml.safe_load(file.read_text())
        if (env_id := newest_version(entry)) is not None
    ]


@pytest.mark.learning
@pytest.mark.filterwarnings("default")  # the environments are not ours
@pytest.mark.parametrize(("algorithm", "entry", "env_id"), entries())
def test_an_entry_of_the_zoo_starts(algorithm, entry, env_id, tmp_path):
    config = tmp_path / "zoo.yml"
    content = yaml.safe_load((ZOO / f"{algorithm}.yml").read_text())[entry]
    config.write_text(yaml.safe_dump({env_id: content}))
    experiment = read_experiment(config, algorithm, env_id, overrides=SMALL, trust=True)
    try:
        experiment.check_components()
    except ConfigError as error:
        if "No module named" not in str(error):
            raise
        pytest.skip(str(error))
    normalize = None
    if experiment.normalize is not None:
        normalize = partial(VecNormalize, **experiment.normalize)
    env = vector_env(env_id, experiment.n_envs, 0, experiment, normalize=normalize)
    model = build_model(AGENTS[algorithm], env, experiment, timesteps=STEPS, seed=0, device="cpu")
    model.learn(STEPS)
    assert model.num_timesteps >= STEPS
    if model.train_freq.unit.value == "step" and model.train_freq.frequency <= 64:
        assert model._n_updates > 0
    env.close()

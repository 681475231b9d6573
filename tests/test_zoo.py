"""`import pyrl_sb3.zoo`, with a stand-in for rl_zoo3."""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest
import sb3_contrib
import stable_baselines3

import pyrl_sb3


@pytest.fixture
def import_zoo(monkeypatch: pytest.MonkeyPatch):
    def load() -> ModuleType:
        monkeypatch.delitem(sys.modules, "pyrl_sb3.zoo", raising=False)
        return importlib.import_module("pyrl_sb3.zoo")

    yield load
    sys.modules.pop("pyrl_sb3.zoo", None)


def test_the_zoo_gets_our_algorithms_and_hindsight(monkeypatch, import_zoo):
    zoo, manager = ModuleType("rl_zoo3"), ModuleType("rl_zoo3.exp_manager")
    names = {"ddpg": "DDPG", "td3": "TD3", "sac": "SAC", "dqn": "DQN"}
    zoo.ALGOS = {key: getattr(stable_baselines3, name) for key, name in names.items()}
    zoo.ALGOS["tqc"] = sb3_contrib.TQC
    held_elsewhere = zoo.ALGOS
    manager.HerReplayBuffer = stable_baselines3.HerReplayBuffer
    monkeypatch.setitem(sys.modules, "rl_zoo3", zoo)
    monkeypatch.setitem(sys.modules, "rl_zoo3.exp_manager", manager)
    import_zoo()
    assert held_elsewhere == {
        "ddpg": pyrl_sb3.DDPG,
        "td3": pyrl_sb3.TD3,
        "sac": pyrl_sb3.SAC,
        "dqn": stable_baselines3.DQN,
        "tqc": sb3_contrib.TQC,
    }
    assert manager.HerReplayBuffer is pyrl_sb3.HerReplayBuffer


def test_a_config_of_the_zoo_names_our_hindsight(monkeypatch, import_zoo, tmp_path):
    """With rl_zoo3 itself, where it is installed."""
    manager = pytest.importorskip("rl_zoo3.exp_manager")
    for algorithm, cls in manager.ALGOS.items():
        monkeypatch.setitem(manager.ALGOS, algorithm, cls)
    monkeypatch.setattr(manager, "HerReplayBuffer", stable_baselines3.HerReplayBuffer)
    import_zoo()
    config = tmp_path / "her.yml"
    config.write_text("Pendulum-v1: {n_timesteps: 1, replay_buffer_class: HerReplayBuffer}")
    arguments = SimpleNamespace(algo="sac")
    run = manager.ExperimentManager(arguments, "sac", "Pendulum-v1", "", config=str(config))
    read = run._preprocess_hyperparams(run.read_hyperparameters()[0])[0]
    assert read["replay_buffer_class"] is pyrl_sb3.HerReplayBuffer


def test_without_the_zoo(monkeypatch, import_zoo):
    monkeypatch.setitem(sys.modules, "rl_zoo3", None)
    with pytest.raises(ModuleNotFoundError, match="needs rl_zoo3: pip install rl-zoo3"):
        import_zoo()

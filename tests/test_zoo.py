"""`import pyrl_sb3.zoo`, with a stand-in for rl_zoo3."""

import importlib
import sys
from types import ModuleType

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


def test_the_zoo_gets_our_algorithms(monkeypatch, import_zoo):
    zoo = ModuleType("rl_zoo3")
    names = {"ddpg": "DDPG", "td3": "TD3", "sac": "SAC", "dqn": "DQN"}
    zoo.ALGOS = {key: getattr(stable_baselines3, name) for key, name in names.items()}
    zoo.ALGOS["tqc"] = sb3_contrib.TQC
    held_elsewhere = zoo.ALGOS
    monkeypatch.setitem(sys.modules, "rl_zoo3", zoo)
    import_zoo()
    assert held_elsewhere == {
        "ddpg": pyrl_sb3.DDPG,
        "td3": pyrl_sb3.TD3,
        "sac": pyrl_sb3.SAC,
        "dqn": stable_baselines3.DQN,
        "tqc": sb3_contrib.TQC,
    }


def test_without_the_zoo(monkeypatch, import_zoo):
    monkeypatch.setitem(sys.modules, "rl_zoo3", None)
    with pytest.raises(ModuleNotFoundError, match="needs rl_zoo3: pip install rl-zoo3"):
        import_zoo()

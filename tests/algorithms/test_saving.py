"""Saving, loading and moving parameters: as with SB3's classes, and between ours and SB3's."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
from stable_baselines3.common.noise import NormalActionNoise

from pyrl_sb3 import ReplayBuffer, algorithms
from pyrl_sb3.config.zoo import schedule
from pyrl_sb3.noise.several import PerEnvNoise

NAMES = pytest.mark.parametrize("name", ["SAC", "TD3", "DDPG"])


def make(module: Any, name: str, env: Any, **arguments: Any) -> Any:
    settings = {"policy_kwargs": {"net_arch": [12, 8]}, "learning_starts": 10, "batch_size": 8}
    settings |= {"buffer_size": 200, "seed": 0, "device": "cpu"}
    return getattr(module, name)("MlpPolicy", env, **settings | arguments)


def seed(value: int) -> None:
    np.random.seed(value)
    th.manual_seed(value)


def learn(model: Any, steps: int) -> None:
    seed(0)
    model.learn(steps)


def states(model: Any) -> dict[str, Any]:
    """All that training changes: parameters and the optimisers' states."""
    return copy.deepcopy(model.get_parameters())


def assert_same(a: Any, b: Any, **tolerance: float) -> None:
    for name in a:
        values = (a[name]["state"], b[name]["state"]) if "optimizer" in name else (a[name], b[name])
        th.testing.assert_close(*values, check_dtype=False, **(tolerance or {"rtol": 0, "atol": 0}))


@NAMES
def test_learning_resembles_sb3s_step_for_step(name: str, make_env: Any) -> None:
    ours, theirs = (make(module, name, make_env()) for module in (algorithms, sb3))
    learn(ours, 60)
    learn(theirs, 60)
    assert ours.num_timesteps == theirs.num_timesteps
    assert_same(states(ours), states(theirs), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        ours.replay_buffer.actions, theirs.replay_buffer.actions, rtol=0, atol=1e-5
    )


CONTINUE = """
import sys, numpy as np, torch as th
folder, tests = sys.argv[1:]
sys.path.insert(0, tests)
from conftest import RandomEnv
from pyrl_sb3 import ReplayBuffer, algorithms
from pyrl_sb3.config.zoo import schedule
from pyrl_sb3.noise.several import PerEnvNoise
for name in ("SAC", "TD3", "DDPG"):
    model = getattr(algorithms, name).load(f"{folder}/{name}", env=RandomEnv())
    model.load_replay_buffer(f"{folder}/{name}.pkl")
    model._setup_learn(1)
    np.random.seed(7)
    th.manual_seed(7)
    model.train(5, batch_size=8)
    th.save(model.get_parameters(), f"{folder}/{name}.pt")
"""


def test_continuing_in_another_process_changes_no_bit(make_env: Any, tmp_path: Path) -> None:
    models = {name: make(algorithms, name, make_env()) for name in ("SAC", "TD3", "DDPG")}
    for name, model in models.items():
        learn(model, 30)
        model.save(tmp_path / name)
        model.save_replay_buffer(tmp_path / f"{name}.pkl")
    tests = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", CONTINUE, str(tmp_path), tests], check=True)
    for name, model in models.items():
        seed(7)
        model.train(5, batch_size=8)
        assert_same(th.load(tmp_path / f"{name}.pt"), states(model))


@NAMES
def test_sb3_continues_what_ours_saved_and_back(name: str, make_env: Any, tmp_path: Path) -> None:
    ours = make(algorithms, name, make_env())
    learn(ours, 30)
    ours.save(tmp_path / "ours")
    theirs = getattr(sb3, name).load(tmp_path / "ours", env=make_env())
    theirs.replay_buffer = copy.deepcopy(ours.replay_buffer)
    for model in (ours, theirs):
        model._setup_learn(1)
        seed(3)
        model.train(5, batch_size=8)
    assert_same(states(ours), states(theirs), rtol=1e-3, atol=1e-4)
    observation = ours.observation_space.sample()
    actions = [model.predict(observation, deterministic=True)[0] for model in (ours, theirs)]
    np.testing.assert_allclose(*actions, rtol=0, atol=1e-5)

    theirs.save(tmp_path / "theirs")
    again = getattr(algorithms, name).load(tmp_path / "theirs", env=make_env())
    assert again.gradients == "explicit"
    assert_same(states(again), states(theirs))
    again.replay_buffer = copy.deepcopy(theirs.replay_buffer)
    for model in (again, theirs):
        model._setup_learn(1)
        seed(4)
        model.train(5, batch_size=8)
    assert_same(states(again), states(theirs), rtol=1e-3, atol=1e-4)


@NAMES
@pytest.mark.parametrize("buffer", [None, ReplayBuffer])
def test_sb3_loads_ours_where_this_package_is_not(
    name: str, buffer: Any, make_env: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keywords = {"frame_stack": 1} if buffer else None
    settings = {"replay_buffer_class": buffer, "replay_buffer_kwargs": keywords}
    noise = PerEnvNoise([NormalActionNoise(np.zeros(2), np.ones(2))])
    settings |= {"action_noise": noise, "learning_rate": schedule("lin_1e-3")}
    ours = make(algorithms, name, make_env(), **settings)
    ours.save(tmp_path / "ours")
    observation = ours.observation_space.sample()
    expected = ours.predict(observation, deterministic=True)[0]
    for module in [each for each in sys.modules if each.partition(".")[0] == "pyrl_sb3"]:
        monkeypatch.setitem(sys.modules, module, None)
    cls = getattr(sb3, name)
    with pytest.raises(ModuleNotFoundError, match="pyrl_sb3"):
        cls.load(tmp_path / "ours")
    names = {"policy_class": cls.policy_aliases["MlpPolicy"]}
    names |= {"replay_buffer_class": None, "replay_buffer_kwargs": {}, "action_noise": None}
    theirs = cls.load(tmp_path / "ours", custom_objects=names)
    assert type(theirs.policy).__module__.startswith("stable_baselines3.")
    actions = theirs.predict(observation, deterministic=True)[0]
    np.testing.assert_allclose(actions, expected, rtol=0, atol=1e-6)


@NAMES
def test_set_parameters_are_what_training_continues_from(name: str, make_env: Any) -> None:
    a, b = (make(algorithms, name, make_env()) for _ in range(2))
    learn(a, 30)
    b.replay_buffer = a.replay_buffer
    b._setup_learn(1)
    b._n_updates = a._n_updates
    b.set_parameters(states(a))
    if name == "SAC":
        b.log_ent_coef.data = a.log_ent_coef.data.clone()
    for model in (a, b):
        seed(3)
        model.train(4, batch_size=8)
    assert_same(states(a), states(b))
    if name == "SAC":
        assert th.equal(a.log_ent_coef, b.log_ent_coef)


def copy_policy(model: Any) -> None:
    model.policy = copy.deepcopy(model.policy)
    model._create_aliases()


def move_data(model: Any) -> None:
    for p in model.policy.parameters():
        p.data = p.data.clone()


@NAMES
@pytest.mark.parametrize("move", [copy_policy, move_data])
def test_parameters_may_move(name: str, move: Any, make_env: Any) -> None:
    moved, model = (make(algorithms, name, make_env()) for _ in range(2))
    for each in (moved, model):
        learn(each, 20)
    move(moved)
    for each in (moved, model):
        seed(3)
        each.train(4, batch_size=8)
    assert_same(states(moved), states(model))


@NAMES
def test_user_written_updates_take_turns_with_ours(name: str, make_env: Any) -> None:
    """Pretraining with ``actor.optimizer`` is common; its moments are the ones we go on with."""
    ours, theirs = (make(module, name, make_env()) for module in (algorithms, sb3))
    for model in (ours, theirs):
        learn(model, 20)
        seed(3)
        model.train(2, batch_size=8)
        loss = model.actor(th.zeros(4, 5)).square().sum()
        model.actor.optimizer.zero_grad()
        loss.backward()
        model.actor.optimizer.step()
        model.train(2, batch_size=8)
    assert_same(states(ours), states(theirs), rtol=1e-3, atol=1e-4)


def test_the_choice_is_printed_once(make_env: Any, capsys: pytest.CaptureFixture[str]) -> None:
    learn(make(algorithms, "SAC", make_env(), verbose=1), 15)
    assert capsys.readouterr().out.count("Gradients: explicit") == 1
    make(algorithms, "SAC", make_env(), verbose=1, use_sde=True)
    assert "Gradients: autograd: the actor uses gSDE" in capsys.readouterr().out
    make(algorithms, "SAC", make_env())
    assert capsys.readouterr().out == ""


def test_a_model_of_other_actions_is_refused_in_words(tmp_path: Any) -> None:
    for name, env, other, needs in (
        ("SAC", "Pendulum-v1", "DQN", "DQN needs Discrete actions, not Box"),
        ("DQN", "CartPole-v1", "TD3", r"TD3 needs continuous actions \(Box\), not Discrete"),
    ):
        model = getattr(algorithms, name)("MlpPolicy", env, policy_kwargs={"net_arch": [4]})
        model.save(tmp_path / name)
        with pytest.raises(AssertionError, match=needs):
            getattr(algorithms, other).load(tmp_path / name)

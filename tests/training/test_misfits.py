"""What a checkpoint holds in the place of numbers, arrays and moments: what fits goes on."""

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch as th
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import pyrl_sb3
from pyrl_sb3.training.misfits import optimizer_misfit
from pyrl_sb3.training.state import StateError, capture, restore, restore_attributes


def pendulum():
    return DummyVecEnv([lambda: gym.make("Pendulum-v1")])


OWNERS = {
    "stock": lambda: stable_baselines3.SAC("MlpPolicy", pendulum(), buffer_size=1),
    "own": lambda: pyrl_sb3.SAC("MlpPolicy", pendulum(), buffer_size=1),
    "buffer": lambda: stable_baselines3.SAC("MlpPolicy", pendulum(), buffer_size=1).replay_buffer,
    "wrapper": lambda: VecNormalize(pendulum()),
}


@pytest.mark.parametrize("make", OWNERS.values(), ids=OWNERS)
def test_what_others_put_on_an_object_may_change_its_kind(make):
    owner = make()
    owner.curriculum_level, owner.curriculum_seen = 0, np.zeros(3)
    restore_attributes({"curriculum_level": [1, 2], "curriculum_seen": None}, owner)
    assert (owner.curriculum_level, owner.curriculum_seen) == ([1, 2], None)


@pytest.mark.parametrize("name", ["rewards", "losses", "means", "epsilon"])
@pytest.mark.parametrize("owner", ["stock", "own"])
def test_names_that_its_class_uses_for_other_things_may_be_anything(owner, name):
    model = OWNERS[owner]()
    assert not hasattr(model, name)
    setattr(model, name, 0.0)
    restore_attributes({name: [1]}, model)
    assert getattr(model, name) == [1]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        *[(owner, name) for owner in ("stock", "own") for name in ("gamma", "_n_updates", "tau")],
        *[(owner, name) for owner in ("stock", "own") for name in ("target_entropy", "n_envs")],
        *[("buffer", name) for name in ("pos", "buffer_size", "rewards")],
        *[("wrapper", name) for name in ("gamma", "clip_obs", "returns")],
    ],
)
def test_what_its_class_works_with_keeps_its_kind(owner, name):
    with pytest.raises(StateError, match=rf"\.{name}: a list is no "):
        restore_attributes({name: [1]}, OWNERS[owner]())


@pytest.mark.parametrize(
    ("owner", "name", "value", "said"),
    [
        *[("own", "gamma", value, None) for value in (1, np.float32(0.5), np.array(0.5))],
        ("own", "gamma", "a", "a str is no number"),
        ("own", "gamma", np.array("a"), r"an array of <U1 of shape \(\) is no number"),
        ("wrapper", "clip_obs", None, "a NoneType is no number"),
        ("wrapper", "returns", np.ones(1, int), None),
        ("wrapper", "returns", np.ones(2), r"of shape \(2,\) is no array of .* of shape \(1,\)"),
        ("wrapper", "returns", np.full(1, "a"), r"an array of <U1 of shape \(1,\) is no array of"),
        ("buffer", "rewards", np.ones((0, 1)), None),  # rows that are filled, of all
        ("buffer", "rewards", np.ones((1, 2)), r"of shape \(1, 2\) is no array of numbers"),
        ("buffer", "rewards", np.ones(1), r"of shape \(1,\) is no array of numbers of"),
    ],
)
def test_numbers_and_arrays_of_numbers_remain_such(owner, name, value, said):
    made = OWNERS[owner]()
    if said is None:
        restore_attributes({name: value}, made)
        assert getattr(made, name) is value
    else:
        with pytest.raises(StateError, match=rf"\.{name}: .*{said}"):
            restore_attributes({name: value}, made)


@pytest.mark.parametrize(
    ("kept", "built"),
    [
        ((np.zeros(1), np.ones(1)), (0.0, 1.0)),
        ((0.0, 1.0), (np.zeros(1), np.ones(1))),
        ((np.zeros(3), np.full(3, 0.5)), (np.zeros(3), 0.5)),
    ],
    ids=["arrays", "numbers", "one of two"],
)
def test_noise_that_is_the_same_written_otherwise(kept, built):
    noise = NormalActionNoise(*built)
    restore(capture(NormalActionNoise(*kept), (object,)), noise)
    assert [np.shape(each) for each in (noise._mu, noise._sigma)] == [*map(np.shape, kept)]
    for gamma in (np.full(3, 0.99), np.full(1, 0.99)):
        with pytest.raises(StateError, match=r"an array of float64 .* is no number"):
            restore_attributes({"gamma": gamma}, OWNERS["stock"]())


@pytest.mark.parametrize("kept", [np.ones(1), np.zeros(0), np.array(["0"]), None, [0.0]], ids=repr)
def test_noise_that_is_another(kept):
    noise = NormalActionNoise(0.0, 1.0)
    with pytest.raises(StateError, match=r"NormalActionNoise\._mu: .* is no number"):
        restore(capture(NormalActionNoise(kept, 1.0), (object,)), noise)


def stepped(kind, dtype=th.complex64):
    """The optimiser of a parameter, after two steps, as a model has it."""
    parameter = th.nn.Parameter(th.ones(3, dtype=dtype))
    optimizer = kind([parameter], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (parameter * parameter.conj()).real.sum().backward()
        optimizer.step()

    class Model:
        def __init__(self):
            self.optimizer = optimizer

        def _get_torch_save_params(self):
            return ["optimizer"], []

    return Model()


@pytest.mark.parametrize("dtype", [th.complex64, th.float64], ids=str)
@pytest.mark.parametrize(
    "name", ["Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "Rprop"]
)
def test_moments_are_of_the_kind_of_their_parameters(name, dtype):
    model = stepped(getattr(th.optim, name), dtype)
    assert optimizer_misfit(model) is None
    other = th.float32 if dtype.is_complex else th.complex64
    (state,) = model.optimizer.state.values()
    for key in {"exp_avg", "square_avg"} & {*state}:
        state[key] = state[key].abs().to(other)
        assert optimizer_misfit(model) == f"optimizer: {key} does not fit its parameter"


def test_a_step_is_no_complex_number():
    model = stepped(th.optim.Adam)
    (state,) = model.optimizer.state.values()
    state["step"] = state["step"].to(th.complex64)
    assert optimizer_misfit(model) == "optimizer: step does not fit its parameter"


@pytest.mark.parametrize(
    ("key", "value", "fits"),
    [
        ("step", 3, True),
        ("step", None, True),
        ("step", "3", False),
        ("step", th.ones(2), False),
        ("exp_avg", None, True),
        ("exp_avg", 3, False),
        ("exp_avg", th.ones(4), False),
        ("exp_avg", th.ones(3).to_sparse(), False),
        ("exp_avg", th.ones(3, requires_grad=True), False),
        ("exp_avg", th.ones(3, device="meta"), False),
        ("mine", "whatever", True),
    ],
)
def test_what_an_optimiser_keeps_is_of_its_parameters(key, value, fits):
    model = stepped(th.optim.Adam, th.float32)
    (state,) = model.optimizer.state.values()
    state[key] = value
    said = optimizer_misfit(model)
    assert said == (None if fits else f"optimizer: {key} does not fit its parameter")

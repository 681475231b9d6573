"""The state of real models, read and written in place."""

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch as th
from stable_baselines3.common.torch_layers import FlattenExtractor

import pyrl_sb3
from pyrl_sb3.training.sync.averages import combined
from pyrl_sb3.training.sync.state import AgentState, read_state, write_state

ALGORITHMS = [
    stable_baselines3.TD3,
    stable_baselines3.SAC,
    pyrl_sb3.TD3,
    pyrl_sb3.SAC,
    pyrl_sb3.DDPG,
    sb3_contrib.TQC,
    sb3_contrib.CrossQ,
]


def ids(algorithm):
    return f"{algorithm.__module__.partition('.')[0]}-{algorithm.__name__}"


def make(algorithm, seed=0, steps=0, **policy_kwargs):
    model = algorithm(
        "MlpPolicy",
        gym.make("Pendulum-v1"),
        policy_kwargs={"net_arch": [8], **policy_kwargs},
        learning_starts=10,
        buffer_size=200,
        batch_size=8,
        seed=seed,
        device="cpu",
    )
    if steps:
        model.learn(steps)
    return model


def assert_equal(one, other):
    ours, theirs = one.as_arrays(), other.as_arrays()
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=ids)
def test_all_that_training_changes_is_in_the_state(algorithm):
    """A model that gets another's state takes the same next steps from the same batches."""
    one, other = make(algorithm, 0, steps=40), make(algorithm, 1, steps=25)
    write_state(other, read_state(one))
    assert_equal(read_state(other), read_state(one))
    other.replay_buffer = one.replay_buffer
    other._n_updates = one._n_updates
    for model in (one, other):
        model.replay_buffer.rng = np.random.default_rng(0)
        np.random.seed(0)
        th.manual_seed(0)
        model.train(gradient_steps=4, batch_size=8)
    assert_equal(read_state(other), read_state(one))


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=ids)
def test_copies_exchange_the_same_arrays_before_and_after_training(algorithm):
    before, after = (read_state(make(algorithm, 0, steps)) for steps in (0, 15))
    assert {n: a.shape for n, a in before.as_arrays().items()} == {
        n: a.shape for n, a in after.as_arrays().items()
    }


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=ids)
def test_reading_and_writing_back_leaves_training_as_it_was(algorithm):
    one, other = make(algorithm), make(algorithm)
    write_state(other, read_state(other))
    for model in (one, other):
        model.set_random_seed(0)
        model.learn(30)
    assert_equal(read_state(other), read_state(one))


@pytest.mark.parametrize("algorithm", [pyrl_sb3.TD3, pyrl_sb3.SAC, pyrl_sb3.DDPG], ids=ids)
def test_flat_parameters_and_moments_stay_attached(algorithm):
    one, other = make(algorithm, 0, steps=20), make(algorithm, 1, steps=20)
    learners = [each for each in other._learners if each]
    write_state(other, read_state(one))
    assert all(each.attached() for each in learners)
    other.learn(5, reset_num_timesteps=False)
    assert [each for each in other._learners if each] == learners, "they were bound anew"


def test_parts_are_what_they_are_called():
    sac = read_state(make(pyrl_sb3.SAC, steps=20))
    assert "log_ent_coef" in sac.weights
    assert "policy.critic_target.qf0.0.weight" in sac.weights
    assert "policy.actor.mu.weight" in sac.weights
    assert "ent_coef_optimizer.0.exp_avg_sq" in sac.moments
    assert sac.counts["actor.optimizer.0.step"] == 10
    assert not sac.running
    crossq = read_state(make(sb3_contrib.CrossQ, steps=20))
    assert any(name.endswith("ra_var") for name in crossq.running)
    assert any(name.endswith("steps") for name in crossq.counts)
    assert not any("target" in name for name in crossq.weights)


@pytest.mark.parametrize("extra", [{"version": 2}, th.zeros(2)], ids=["a dictionary", "a tensor"])
def test_what_modules_keep_besides_tensors_stays_each_copys_own(extra):
    class Versioned(FlattenExtractor):
        def get_extra_state(self):
            return extra

        def set_extra_state(self, state):
            pass

    one, other = (
        make(pyrl_sb3.TD3, seed, steps=12, features_extractor_class=Versioned) for seed in (0, 1)
    )
    assert not [name for name in read_state(one).as_arrays() if "extra" in name]
    write_state(other, read_state(one))
    assert_equal(read_state(other), read_state(one))


def test_a_buffer_that_is_only_called_like_them_is_exchanged():
    class Counting(FlattenExtractor):
        def __init__(self, space):
            super().__init__(space)
            self.register_buffer("an_extra_state", th.zeros(1))

    one = make(pyrl_sb3.TD3, steps=12, features_extractor_class=Counting)
    assert [name for name in read_state(one).running if name.endswith("an_extra_state")]


def test_targets_keep_their_lag():
    """The mean of targets, not a target reset to the mean network."""
    one, other = (read_state(make(pyrl_sb3.TD3, seed, 30)) for seed in (0, 1))
    mean = combined([one, other], [0.5, 0.5]).weights
    name = "policy.critic{}.qf0.0.weight"
    online, target = mean[name.format("")], mean[name.format("_target")]
    assert np.abs(online - target).max() > 1e-4
    expected = (one.weights[name.format("_target")] + other.weights[name.format("_target")]) / 2
    np.testing.assert_allclose(target, expected, rtol=1e-6)


def test_states_travel_as_arrays():
    state = read_state(make(pyrl_sb3.SAC, steps=12))
    assert_equal(AgentState.of_arrays({**state.as_arrays(), "score": np.array(1)}), state)


def test_a_state_of_another_build_is_refused():
    with pytest.raises(KeyError):
        write_state(make(pyrl_sb3.SAC), read_state(make(pyrl_sb3.TD3)))


@pytest.mark.parametrize(
    ("part", "wrong"),
    [("moments", None), ("moments", np.zeros(999)), ("counts", np.array(1, dtype=np.longdouble))],
)
def test_a_state_that_cannot_be_written_changes_nothing(part, wrong):
    model = make(pyrl_sb3.TD3)
    before = read_state(model)
    arrays = {name: array + 1 for name, array in before.as_arrays().items()}
    name = [each for each in arrays if each.startswith(part)][-1]
    arrays[name] = wrong
    if wrong is None:
        del arrays[name]
    with pytest.raises((KeyError, RuntimeError, TypeError)):
        write_state(model, AgentState.of_arrays(arrays))
    assert_equal(read_state(model), before)


def test_optimisers_other_than_adam_have_no_moments_before_they_have_stepped():
    kwargs = {"optimizer_class": th.optim.SGD, "net_arch": [8]}
    model = stable_baselines3.TD3("MlpPolicy", gym.make("Pendulum-v1"), policy_kwargs=kwargs)
    assert not read_state(model).moments


OPTIMIZERS = {
    "RMSprop": (th.optim.RMSprop, {"momentum": 0.5, "centered": True}),
    "SGD": (th.optim.SGD, {"momentum": 0.9}),
    "AdamW": (th.optim.AdamW, {"amsgrad": True, "weight_decay": 0.1}),
    "NAdam": (th.optim.NAdam, {}),
    "Adagrad": (th.optim.Adagrad, {}),
    "Adamax": (th.optim.Adamax, {}),
}


@pytest.mark.parametrize("algorithm", [stable_baselines3.SAC, pyrl_sb3.SAC], ids=ids)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_copies_with_any_optimizer_begin_to_train_at_different_times(name, algorithm):
    """One that has not trained yet has the same arrays, and loses nothing by being read."""
    cls, kwargs = OPTIMIZERS[name]
    given = {"optimizer_class": cls, "optimizer_kwargs": kwargs}
    before, after = (make(algorithm, steps=steps, **given) for steps in (0, 15))
    shapes = [{n: a.shape for n, a in read_state(m).as_arrays().items()} for m in (before, after)]
    assert shapes[0] == shapes[1]
    early = read_state(before)
    moments = [a for n, a in early.moments.items() if not n.endswith(("exp_inf", "mu_product"))]
    assert not any(array.any() for array in moments)
    assert not any(array.any() for array in early.counts.values())
    untouched = make(algorithm, **given)
    for model in (before, untouched):
        model.set_random_seed(0)
        model.learn(20)
    assert_equal(read_state(before), read_state(untouched))
    write_state(before, read_state(after))
    assert_equal(read_state(before), read_state(after))

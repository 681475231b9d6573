"""DQN against SB3's; discrete SAC's step by hand; saving, prioritised replay, observations."""

import copy
import math
import re
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
from gymnasium import spaces
from stable_baselines3.common.logger import configure
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from pyrl_sb3 import DQN, DiscreteSAC, DQNPolicy, HerReplayBuffer, ReplayBuffer
from pyrl_sb3.discrete_policies import DiscreteSACPolicy
from pyrl_sb3.envs.bit_flipping import BitFlipping


class Choices(gym.Env[Any, Any]):
    """Random observations and rewards for three actions."""

    def __init__(self, observation_space: spaces.Space[Any]) -> None:
        self.observation_space = copy.deepcopy(observation_space)
        self.action_space = spaces.Discrete(3)
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.steps += 1
        reward = float(self.np_random.normal())
        return self.observation_space.sample(), reward, self.steps == 7, False, {}


BOX = spaces.Box(-1, 1, (5,), np.float32)
SPACES = {
    "box": BOX,
    "dict": spaces.Dict(a=BOX, b=spaces.Discrete(3)),
    "image": spaces.Box(0, 255, (3, 36, 36), np.uint8),
}


def fill(model: Any) -> None:
    rng = np.random.default_rng(0)
    for i in range(40):
        obs, next_obs = rng.uniform(-1, 1, (2, 1, 5)).astype(np.float32)
        action, reward = rng.integers(3, size=(1, 1)), 3 * rng.normal(size=1)
        ended, info = np.array([i % 7 == 6]), {"TimeLimit.truncated": False}
        model.replay_buffer.add(obs, next_obs, action, reward, ended, [info])


def trained(cls: Any, weights: Any = None, steps: int = 4, **arguments: Any) -> Any:
    kwargs = {"net_arch": [12, 8]}
    model = cls(
        *("MlpPolicy", Choices(BOX)),
        **{"seed": 0, "buffer_size": 64, "device": "cpu", "policy_kwargs": kwargs, **arguments},
    )
    model.set_logger(configure(None, []))
    if weights is not None:
        model.set_parameters(weights)
    fill(model)
    np.random.seed(1)
    if steps:
        model.train(steps, batch_size=16)
    return model


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"max_grad_norm": 0.01},
        {"n_steps": 3},
        {"learning_rate": lambda remaining: 0.01 * remaining},
    ],
    ids=["default", "clipped", "n_steps", "schedule"],
)
def test_steps_of_dqn_are_sb3s(arguments: dict[str, Any]) -> None:
    weights = sb3.DQN("MlpPolicy", Choices(BOX), seed=7, policy_kwargs={"net_arch": [12, 8]})
    # Another target than the trained network, or a mix-up would not show.
    for parameter in weights.q_net_target.parameters():
        parameter.data.add_(0.1 * th.randn_like(parameter))
    start = weights.get_parameters()
    theirs, ours = (trained(cls, start, **arguments) for cls in (sb3.DQN, DQN))
    assert isinstance(ours.policy, DQNPolicy)
    state, expected = ours.policy.state_dict(), theirs.policy.state_dict()
    th.testing.assert_close(state, expected, rtol=0, atol=1e-10)
    assert any(not th.equal(state[name], start["policy"][name]) for name in state)
    assert ours.logger.name_to_value == pytest.approx(theirs.logger.name_to_value, rel=1e-9)


@pytest.mark.usefixtures("float64")
def test_double_q_learning_values_the_choice_of_the_trained_network() -> None:
    model = trained(DQN, double_q=True, steps=0)
    batch = model._batch(model.replay_buffer.sample(8))
    for parameter in model.q_net_target.q_net[-1].parameters():
        parameter.data.neg_()  # so that what is best for one network is worst for the other
    with th.no_grad():
        choice = model.q_net(batch.next_observations).argmax(1)
        value = model.q_net_target(batch.next_observations)[range(8), choice]
    y = batch.rewards.flatten() + 0.99 * (1 - batch.dones.flatten()) * value
    th.testing.assert_close(model._target(batch).flatten(), y)
    model.double_q = False
    assert not th.allclose(model._target(batch).flatten(), y)


def test_a_seed_decides_and_epsilon_falls() -> None:
    def learned() -> DQN:
        settings = {"learning_starts": 20, "exploration_fraction": 0.5, "buffer_size": 200}
        return DQN("MlpPolicy", Choices(BOX), seed=3, device="cpu", **settings).learn(100)

    model, again = learned(), learned()
    th.testing.assert_close(model.policy.state_dict(), again.policy.state_dict(), rtol=0, atol=0)
    assert model.exploration_rate == pytest.approx(0.05)


@pytest.mark.parametrize("kind", list(SPACES))
@pytest.mark.parametrize("cls", [DQN, DiscreteSAC])
def test_observations_of_any_kind(cls: Any, kind: str, tmp_path: Any) -> None:
    model = cls(
        *("MultiInputPolicy" if kind == "dict" else "MlpPolicy", Choices(SPACES[kind])),
        seed=0,
        buffer_size=50,
        batch_size=8,
        learning_starts=10,
        device="cpu",
        train_freq=4,
    )
    before = copy.deepcopy(model.policy.state_dict())
    model.learn(24)
    assert any(not th.equal(v, before[k]) for k, v in model.policy.state_dict().items())
    model.save(tmp_path / "model")
    again = cls.load(tmp_path / "model", device="cpu")
    th.testing.assert_close(again.policy.state_dict(), model.policy.state_dict())
    env = model.get_env()
    assert env is not None
    observation = env.reset()
    action, _ = model.predict(observation, deterministic=True)
    np.testing.assert_array_equal(action, again.predict(observation, deterministic=True)[0])


def test_more_environments_and_hindsight() -> None:
    from stable_baselines3.common.vec_env import DummyVecEnv

    for cls in (DQN, DiscreteSAC):
        env = DummyVecEnv([lambda: BitFlipping(4)] * 2)
        settings = {"buffer_size": 400, "learning_starts": 20, "batch_size": 16}
        model = cls(
            "MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, seed=0, **settings
        )
        model.learn(120)
        assert model._n_updates > 0
        assert model.replay_buffer.size() == 60


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("backup", [True, False])
def test_the_target_of_discrete_sac_is_the_expectation(average: bool, backup: bool) -> None:
    arguments = {"average_q": average, "backup_entropy": backup, "ent_coef": 0.3}
    model = trained(DiscreteSAC, steps=0, **arguments)
    batch = model._batch(model.replay_buffer.sample(8))
    critics = model.policy.critic_target.q_networks
    with th.no_grad():
        q1, q2 = (q(batch.next_observations.double()).numpy() for q in critics)
        p = model.actor.logits(batch.next_observations.double()).softmax(1).numpy()
    y = []
    for b in range(8):
        value = 0.0
        for a in range(3):
            q = (q1[b, a] + q2[b, a]) / 2 if average else min(q1[b, a], q2[b, a])
            value += p[b, a] * (q - backup * 0.3 * math.log(p[b, a]))
        y.append(batch.rewards[b].item() + 0.99 * (1 - batch.dones[b].item()) * value)
    np.testing.assert_allclose(model._target(batch, th.tensor(0.3)).flatten(), y, rtol=1e-6)


@pytest.mark.usefixtures("float64")
def test_a_step_of_discrete_sac_goes_down_the_gradients() -> None:
    """Plain gradient descent, so that the step is the gradient."""
    arguments: dict[str, Any] = {
        "ent_coef": 0.3,
        "learning_rate": 0.5,
        "tau": 0.25,
        "policy_kwargs": {"net_arch": [6], "optimizer_class": th.optim.SGD},
    }
    model = trained(DiscreteSAC, steps=0, **arguments)
    actor, critic, target = map(
        copy.deepcopy, (model.actor, model.critic, model.policy.critic_target)
    )
    np.random.seed(5)
    batch = model._batch(model.replay_buffer.sample(16))
    y = model._target(batch, th.tensor(0.3))
    np.random.seed(5)
    model.train(1, batch_size=16)

    rows = range(16)
    q = critic(batch.observations)
    taken = q[:, rows, batch.actions.flatten().long()]
    (0.5 * (taken - y.flatten()).square().mean(1).sum()).backward()
    log_pi = actor.logits(batch.observations.double()).log_softmax(1)
    (log_pi.exp() * (0.3 * log_pi - q.detach().mean(0))).sum(1).mean().backward()
    for old, new in ((actor, model.actor), (critic, model.critic)):
        for before, after in zip(old.parameters(), new.parameters(), strict=True):
            th.testing.assert_close(after.detach(), (before - 0.5 * before.grad).detach())
    pairs = zip(target.parameters(), model.critic.parameters(), strict=True)
    moved = [0.75 * a + 0.25 * b for a, b in pairs]
    th.testing.assert_close(list(model.policy.critic_target.parameters()), moved)


def test_the_temperature_leads_to_the_target_entropy() -> None:
    arguments = {"learning_rate": 0.01, "target_entropy_scale": 0.5}
    model = trained(DiscreteSAC, **arguments)
    assert model.target_entropy == pytest.approx(0.5 * math.log(3))
    # Policies begin close to uniform: more entropy than is wanted, so alpha falls.
    assert model.log_ent_coef.item() < 0
    assert trained(DiscreteSAC, learning_rate=0.01, target_entropy=2.0).log_ent_coef.item() > 0


def test_the_target_entropy_falls_over_the_training() -> None:
    wanted, risen = [], []
    for remaining in (1.0, 0.5, 0.0):
        model = trained(DiscreteSAC, target_entropy=2.0, final_entropy_share=0.25, steps=0)
        model._current_progress_remaining = remaining
        wanted.append(model._wanted_entropy())
        model.train(1, batch_size=16)
        risen.append(model.log_ent_coef.item() > 0)
    assert wanted == pytest.approx([2.0, 1.25, 0.5])
    # The policy is close to uniform, with an entropy of 1.1: alpha goes where it is wanted.
    assert risen == [True, True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ent_coef": -1.0}, "ent_coef=-1.0: must be a number, 0 or more, or auto"),
        ({"ent_coef": "auto_x"}, "ent_coef='auto_x': must be a number"),
        ({"ent_coef": "auto_0"}, "ent_coef='auto_0': must be a number"),
        ({"ent_coef": "auto_inf"}, "ent_coef='auto_inf': must be a number"),
        ({"ent_coef": "0.1"}, "ent_coef='0.1': must be a number"),
        ({"target_entropy": "foo"}, "target_entropy='foo': must be a number, or auto"),
        ({"target_entropy_scale": -1}, "target_entropy_scale=-1: must be from 0 to 1"),
        ({"final_entropy_share": 2.0}, "final_entropy_share=2.0: must be from 0 to 1"),
        ({"entropy_penalty": -1.0}, "entropy_penalty=-1.0: must be 0 or more"),
        ({"entropy_penalty": float("nan")}, "entropy_penalty=nan: must be 0 or more"),
        ({"q_clip": -1.0}, "q_clip=-1.0: must be 0 or more, or None"),
        ({"max_grad_norm": "1"}, "max_grad_norm='1': must be 0 or more, or None"),
        ({"target_update_interval": 0}, "target_update_interval=0: must be a whole number, at le"),
        ({"target_update_interval": 1.5}, "target_update_interval=1.5: must be a whole number"),
        ({"action_noise": NormalActionNoise(np.zeros(1), np.ones(1))}, "is a NormalActionNoise: a"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        DiscreteSAC("MlpPolicy", "CartPole-v1", **arguments)


@pytest.mark.parametrize(
    ("cls", "name"),
    [(DQN, "double_q"), (DiscreteSAC, "average_q"), (DiscreteSAC, "backup_entropy")],
)
def test_what_is_neither_true_nor_false_is_refused(cls: Any, name: str, tmp_path: Any) -> None:
    for value in ("no", None, 2):
        with pytest.raises(ValueError, match=f"^{name}={value!r}: must be True or False$"):
            cls("MlpPolicy", "CartPole-v1", **{name: value})
    file = tmp_path / "model.zip"
    cls("MlpPolicy", "CartPole-v1", buffer_size=9, **{name: np.True_}).save(file)
    with pytest.raises(ValueError, match=f"^{name}='no': must be True or False$"):
        cls.load(file, **{name: "no"})


def test_the_entropy_penalty_and_the_clip_change_the_step() -> None:
    plain = trained(DiscreteSAC)
    for arguments in ({"entropy_penalty": 100.0}, {"q_clip": 1e-6}):
        other = trained(DiscreteSAC, **arguments)
        part = "actor" if "entropy_penalty" in arguments else "critic"
        states = [getattr(model, part).state_dict() for model in (plain, other)]
        assert any(not th.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))


def test_a_model_that_was_saved_with_noise_is_loaded(tmp_path: Any) -> None:
    model = trained(DiscreteSAC, steps=0)
    model.action_noise = NormalActionNoise(np.zeros(1), np.ones(1))
    model.save(tmp_path / "model")
    assert DiscreteSAC.load(tmp_path / "model").learning_rate == model.learning_rate


def test_a_fixed_temperature_is_saved(tmp_path: Any) -> None:
    model = trained(DiscreteSAC, ent_coef=0.25, steps=0)
    model.ent_coef_tensor.fill_(0.125)  # a variable of the model, as in SB3
    model.save(tmp_path / "model")
    assert DiscreteSAC.load(tmp_path / "model").ent_coef_tensor.item() == 0.125


@pytest.mark.parametrize("shared", [False, True])
def test_a_policy_that_was_saved_alone_shares_its_encoder_or_not(
    shared: bool, tmp_path: Any
) -> None:
    policy = trained(
        DiscreteSAC, policy_kwargs={"share_features_extractor": shared}, steps=0
    ).policy
    policy.save(tmp_path / "policy")
    again = DiscreteSACPolicy.load(tmp_path / "policy")
    assert (again.critic.features_extractor is again.actor.features_extractor) is shared
    th.testing.assert_close(again.state_dict(), policy.state_dict())


class NotesModes(th.nn.Module):
    """Whether it is in training mode and gradients are wanted, when it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: set[tuple[bool, bool]] = set()

    def forward(self, x: th.Tensor) -> th.Tensor:
        self.modes.add((self.training, th.is_grad_enabled()))
        return x


@pytest.mark.parametrize("cls", [DQN, DiscreteSAC])
def test_layers_such_as_dropout_train_in_training_mode(cls: Any) -> None:
    model = trained(cls, steps=0)
    network = model.q_net.q_net if cls is DQN else model.actor.logits
    network.append(layer := NotesModes())
    model.policy.set_training_mode(False)  # as it is after a rollout
    model.train(1, batch_size=16)
    assert {training for training, with_gradients in layer.modes if with_gradients} == {True}


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_targets_are_updated_after_so_many_gradient_steps(at_a_time: int) -> None:
    model = trained(DiscreteSAC, target_update_interval=4, steps=0)
    updated = []
    for _ in range(12 // at_a_time):
        before = copy.deepcopy(model.policy.critic_target.state_dict())
        model.train(at_a_time, batch_size=16)
        after = model.policy.critic_target.state_dict()
        updated.append(any(not th.equal(before[name], after[name]) for name in after))
    steps = range(0, 12, at_a_time)
    assert updated == [any(n % 4 == 0 for n in range(a, a + at_a_time)) for a in steps]


class Encoder(BaseFeaturesExtractor):
    def __init__(self, space: Any) -> None:
        super().__init__(space, 5)
        self.layer = th.nn.Linear(5, 5)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layer(observations)


def test_the_gradient_of_the_actor_in_a_shared_encoder_is_not_clipped_with_the_critics() -> None:
    shared = {"share_features_extractor": True, "features_extractor_class": Encoder}
    model = trained(DiscreteSAC, policy_kwargs=shared, max_grad_norm=1e-3, steps=0)
    for left_by_the_actor in model.actor.features_extractor.parameters():
        left_by_the_actor.grad = th.full_like(left_by_the_actor, 100.0)
    model.train(1, batch_size=16)
    own = [p.grad for group in model.critic.optimizer.param_groups for p in group["params"]]
    assert th.nn.utils.get_total_norm(own).item() == pytest.approx(1e-3, rel=1e-2)


def test_bad_temperatures_are_refused() -> None:
    for wrong in ("automatic", "auto_0", "0.1"):
        with pytest.raises(ValueError, match=r"ent_coef=.*auto_0\.1"):
            DiscreteSAC("MlpPolicy", Choices(BOX), ent_coef=wrong)
    with pytest.raises(AssertionError, match="Discrete"):
        DiscreteSAC("MlpPolicy", "Pendulum-v1")


class Weighted(ReplayBuffer):
    """All weight on the first row of a batch."""

    given: Any = None
    told: Any = None

    def sample(self, batch_size: int, env: Any = None) -> Any:
        self.given = samples = super().sample(batch_size, env)
        weights = th.zeros(batch_size, 1)
        weights[0] = 1
        return SimpleNamespace(**samples._asdict(), weights=weights, indices=np.arange(batch_size))

    def update_priorities(self, indices: Any, td_errors: Any) -> None:
        self.told = indices, td_errors


@pytest.mark.parametrize("cls", [DQN, DiscreteSAC])
def test_prioritised_replay_gets_errors_and_its_weights_count(cls: Any) -> None:
    model = trained(cls, replay_buffer_class=Weighted, steps=1)
    indices, errors = model.replay_buffer.told
    assert indices.shape == errors.shape == (16,)
    assert (errors > 0).all()
    plain = trained(cls, replay_buffer_class=ReplayBuffer, steps=1)
    name = "train/loss" if cls is DQN else "train/critic_loss"
    assert model.logger.name_to_value[name] < plain.logger.name_to_value[name]


@pytest.mark.parametrize("cls", [DQN, DiscreteSAC])
def test_priorities_are_the_errors_of_the_rows(cls: Any) -> None:
    # The target is the reward without discounting, and the networks stay what they are.
    still = {"gamma": 0.0, "learning_rate": 0.0}
    model = trained(cls, replay_buffer_class=Weighted, steps=1, **still)
    batch, (_, errors) = model.replay_buffer.given, model.replay_buffer.told
    with th.no_grad():
        q = (
            model.q_net(batch.observations)[None]
            if cls is DQN
            else model.critic(batch.observations)
        )
    taken = q[:, range(16), batch.actions.flatten().long()]
    expected = (taken - batch.rewards.flatten()).abs().mean(dim=0)
    np.testing.assert_allclose(errors, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_a_shared_encoder_does_not_learn_from_the_critics(shared: bool) -> None:
    kwargs = {"share_features_extractor": shared, "features_extractor_class": Encoder}
    model = trained(DiscreteSAC, policy_kwargs=kwargs, steps=0)
    model.policy.zero_grad()
    model.critic(th.ones(2, 5)).sum().backward()
    learned = [p.grad is not None for p in model.critic.features_extractor.parameters()]
    assert learned == [not shared] * 2

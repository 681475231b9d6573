"""The policies against SB3's own: same weights in, same actions and losses out."""

import copy
import subprocess
import sys
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, NatureCNN
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from pyrl_sb3.discrete_policies import DiscreteSACPolicy, DQNPolicy, QRDQNPolicy
from pyrl_sb3.errors import NotANumberError
from pyrl_sb3.policies import CrossQPolicy, DDPGPolicy, SACPolicy, TD3Policy, TQCPolicy

BOX = spaces.Box(-2.0, 2.0, (5,), np.float32)
DICT = spaces.Dict(
    {
        "observation": spaces.Box(-1.0, 1.0, (4,), np.float64),
        "achieved_goal": spaces.Box(-1.0, 1.0, (2,), np.float64),
        "desired_goal": spaces.Box(-1.0, 1.0, (2,), np.float64),
    }
)
# The last two cannot be taken by the short way and must come out the same all the same.
MIXED = spaces.Dict({"position": BOX, "gear": spaces.Discrete(3)})
IMAGE = spaces.Box(0, 255, (3, 36, 36), np.uint8)
SPACES = {"box": BOX, "dict": DICT, "mixed": MIXED, "image": IMAGE}

ALGORITHMS = {
    "sac": (sb3.SAC, SACPolicy),
    "td3": (sb3.TD3, TD3Policy),
    "ddpg": (sb3.DDPG, DDPGPolicy),
    "tqc": (sb3_contrib.TQC, TQCPolicy),
}


class RandomEnv(gym.Env[Any, Any]):
    """Observations and rewards drawn from the environment's generator; 7-step episodes."""

    action_space = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([3.0, 0.5], np.float32))

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.observation_space = space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        reward = float(self.np_random.normal())
        return self.observation_space.sample(), reward, self.steps == 5, self.steps == 7, {}


def make_env(space: spaces.Space[Any], n_envs: int = 1) -> DummyVecEnv:
    return DummyVecEnv([lambda: RandomEnv(space) for _ in range(n_envs)])


def sb3_policy_name(space: spaces.Space[Any]) -> str:
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if space is IMAGE else "MlpPolicy"


def make_model(
    algorithm: str, policy: Any, space: spaces.Space[Any], n_envs: int = 1, **policy_kwargs: Any
) -> Any:
    keywords = {"seed": 3, "buffer_size": 500, "learning_starts": 20, "batch_size": 16}
    policy_kwargs = {"net_arch": [16, 16], **policy_kwargs}
    cls, _ = ALGORITHMS[algorithm]
    return cls(policy, make_env(space, n_envs), policy_kwargs=policy_kwargs, **keywords)


def make_ours(algorithm: str, space: spaces.Space[Any], **policy_kwargs: Any) -> Any:
    return make_model(algorithm, ALGORITHMS[algorithm][1], space, **policy_kwargs)


def pair(algorithm: str, space: spaces.Space[Any], **keywords: Any) -> tuple[Any, Any]:
    """A stock model with SB3's policy and one with ours, same seed, hence the same weights."""
    theirs = make_model(algorithm, sb3_policy_name(space), space, **keywords)
    return theirs, make_ours(algorithm, space, **keywords)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_same_weights_give_the_same_actions(algorithm: str, space: str) -> None:
    theirs, ours = pair(algorithm, SPACES[space], n_envs=3)
    for name, weights in theirs.policy.state_dict().items():
        assert th.equal(weights, ours.policy.state_dict()[name]), name
    observations = ours.get_env().reset()
    for deterministic in (True, False):
        actions = []
        for model in (theirs, ours):
            th.manual_seed(0)
            actions.append(model.predict(observations, deterministic=deterministic)[0])
        assert actions[0].shape == (3, 2)
        assert actions[0].dtype == actions[1].dtype
        np.testing.assert_array_equal(*actions)


@pytest.mark.parametrize("kind", [SACPolicy, TQCPolicy, CrossQPolicy])
@pytest.mark.parametrize("rows", [(), (1,), (3,)], ids=["one", "batch of one", "batch"])
def test_actions_are_drawn_to_the_last_bit_as_in_sb3(kind: Any, rows: tuple[int, ...]) -> None:
    th.manual_seed(0)
    policy = kind(BOX, RandomEnv.action_space, lambda _: 1e-3, net_arch=[16])
    observations = np.random.default_rng(0).normal(size=(100, *rows, 5)).astype(np.float32)
    drawn = []
    for predict in (partial(BasePolicy.predict, policy), policy.predict):
        th.manual_seed(0)
        drawn.append([predict(observation)[0] for observation in observations])
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("algorithm", ["sac", "tqc"])
def test_deviations_that_are_too_large_are_clipped_as_in_sb3(algorithm: str) -> None:
    actions = []
    for model in pair(algorithm, BOX):
        nn.init.constant_(model.actor.log_std.bias, 5.0)
        th.manual_seed(0)
        actions.append(model.predict(np.full((9, 5), 0.2, np.float32))[0])
    np.testing.assert_array_equal(*actions)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_single_observation_gives_a_single_action(
    algorithm: str, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = pair(algorithm, SPACES[space])
    observation = SPACES[space].sample()
    expected = theirs.predict(observation, deterministic=True)[0]
    if space in ("box", "dict"):  # by the short way too
        monkeypatch.setattr(BasePolicy, "predict", None)
    found = ours.predict(observation, deterministic=True)[0]
    assert found.shape == (2,)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [DQNPolicy, QRDQNPolicy])
def test_a_single_observation_gives_a_single_discrete_action(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = kind(BOX, spaces.Discrete(3), lambda _: 1e-3, net_arch=[8])
    expected, _ = BasePolicy.predict(policy, BOX.low, deterministic=True)
    monkeypatch.setattr(BasePolicy, "predict", None)
    found, _ = policy.predict(BOX.low, deterministic=True)
    assert (type(found), found.shape, found.dtype) == (np.ndarray, (), expected.dtype)
    assert found == expected


@pytest.mark.parametrize("kind", [DQNPolicy, QRDQNPolicy, DiscreteSACPolicy])
@pytest.mark.parametrize("deterministic", [True, False])
def test_no_discrete_action_is_chosen_by_nan(kind: Any, deterministic: bool) -> None:
    policy = kind(BOX, spaces.Discrete(3), lambda _: 1e-3, net_arch=[8])
    rows = np.stack([BOX.low, np.full(5, np.nan, np.float32)])
    for observation in (rows, rows[1]):
        with pytest.raises(NotANumberError, match=r"^an action is NaN: an observation, a par"):
            policy.predict(observation, deterministic=deterministic)
    infinite, _ = policy.predict(rows[:1] * 1e30, deterministic=True)
    assert infinite.shape == (1,)
    assert policy.predict(rows[:0], deterministic=True)[0].shape == (0,)


@pytest.mark.parametrize("deterministic", [True, False])
def test_an_actor_of_images_draws_nothing_by_nan(deterministic: bool) -> None:
    policy = DiscreteSACPolicy(IMAGE, spaces.Discrete(3), lambda _: 1e-3, net_arch=[8])
    with th.no_grad():
        next(policy.actor.logits.parameters()).fill_(th.nan)
    with pytest.raises(NotANumberError, match="an action is NaN"):
        policy.predict(IMAGE.low, deterministic=deterministic)


def test_a_dict_of_which_only_a_part_has_a_batch_axis_is_as_in_sb3() -> None:
    theirs, ours = pair("sac", DICT)
    observation = DICT.sample()
    observation["observation"] = observation["observation"][None]
    expected = theirs.predict(observation, deterministic=True)[0]
    np.testing.assert_array_equal(ours.predict(observation, deterministic=True)[0], expected)


@pytest.mark.parametrize("rows", [(), (1,), (3,)], ids=["one", "batch of one", "batch"])
def test_a_key_that_the_space_has_not_is_an_error_as_in_sb3(rows: tuple[int, ...]) -> None:
    observation = {key: np.zeros((*rows, *part.shape)) for key, part in DICT.items()}
    for model in pair("sac", DICT):
        assert model.predict(observation)[0].shape == (*rows, 2)
        with pytest.raises(KeyError, match="camera"):
            model.predict({**observation, "camera": np.zeros((*rows, 2))})


UNIT_IMAGE = spaces.Box(0.0, 1.0, (3, 36, 36), np.float32)


@pytest.mark.parametrize("algorithm", ["sac", "td3"])
@pytest.mark.parametrize(
    ("space", "name"),
    [(UNIT_IMAGE, "CnnPolicy"), (spaces.Dict(a=UNIT_IMAGE, b=BOX), "MultiInputPolicy")],
)
def test_images_that_are_normalised_already_are_images(
    algorithm: str, space: Any, name: str
) -> None:
    theirs = make_model(algorithm, name, space, normalize_images=False)
    ours = make_ours(algorithm, space, normalize_images=False)
    assert ours.policy.state_dict().keys() == theirs.policy.state_dict().keys()
    ours.policy.load_state_dict(theirs.policy.state_dict())
    space.seed(0)
    observation = space.sample()
    expected = theirs.predict(observation, deterministic=True)[0]
    np.testing.assert_allclose(ours.predict(observation, deterministic=True)[0], expected)
    ours.learn(24)


@pytest.mark.parametrize("shape", [(3, 7, 7), (1, 36, 35)])
def test_images_too_small_for_the_cnn_are_flattened(shape: tuple[int, ...]) -> None:
    theirs = make_model("sac", "MlpPolicy", space := spaces.Box(0, 255, shape, np.uint8))
    ours = make_ours("sac", space)
    assert ours.policy.state_dict().keys() == theirs.policy.state_dict().keys()
    observation = space.sample()
    actions = [m.predict(observation, deterministic=True)[0] for m in (theirs, ours)]
    np.testing.assert_allclose(*actions, rtol=1e-6)


def test_small_images_in_a_dict_are_flattened_beside_larger_ones() -> None:
    images = {f"side {n}": spaces.Box(0, 255, (1, n, n), np.uint8) for n in (36, 7)}
    space = spaces.Dict(**images, vector=spaces.Box(-1, 1, (2,)))
    ours = make_ours("sac", space)
    parts = ours.actor.features_extractor.extractors
    assert {key: type(part) for key, part in parts.items()} == {
        "side 36": NatureCNN,
        "side 7": nn.Flatten,
        "vector": nn.Flatten,
    }
    white = {key: np.full_like(part.sample(), 1) for key, part in space.items()}
    white |= {key: np.full_like(image.sample(), 255) for key, image in images.items()}
    tensor, _ = ours.policy.obs_to_tensor(white)
    features = ours.actor.extract_features(tensor, ours.actor.features_extractor)
    th.testing.assert_close(features[:, 256:], th.ones(1, 7 * 7 + 2))  # images are in [0, 1]
    ours.learn(24)


def test_extractors_of_other_kinds_act() -> None:
    class Two(BaseFeaturesExtractor):
        def __init__(self, space: spaces.Box) -> None:
            super().__init__(space, 8)
            self.extractors = nn.ModuleList([nn.Linear(5, 4), nn.Linear(5, 4)])

        def forward(self, observations: th.Tensor) -> th.Tensor:
            return th.cat([each(observations) for each in self.extractors], 1)

    theirs, ours = pair("sac", BOX, features_extractor_class=Two)
    observation = BOX.sample()
    actions = [m.predict(observation, deterministic=True)[0] for m in (theirs, ours)]
    np.testing.assert_allclose(*actions, rtol=1e-6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_observations_may_be_any_view(algorithm: str) -> None:
    theirs, ours = pair(algorithm, BOX)
    rows = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    rows.flags.writeable = False
    for observation in (rows, rows[::-1], rows[:, ::-1], rows.T.copy().T):
        expected = theirs.predict(observation, deterministic=True)[0]
        found = ours.predict(observation, deterministic=True)[0]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_actions_are_drawn_by_a_method_put_on_the_distribution() -> None:
    for policy in ("MlpPolicy", SACPolicy):
        model = sb3.SAC(policy, make_env(BOX), buffer_size=10)
        model.predict(np.ones((3, 5), np.float32))
        model.actor.action_dist.sample = lambda: th.full((3, 2), 0.5)
        actions, _ = model.predict(np.ones((3, 5), np.float32))
        np.testing.assert_allclose(actions, [[2.0, 0.375]] * 3)


def test_state_dependent_exploration_acts_as_in_sb3() -> None:
    actions = []
    for policy in ("MlpPolicy", SACPolicy):
        model = sb3.SAC(policy, make_env(BOX), use_sde=True, seed=1, buffer_size=10)
        model.policy.reset_noise(1)
        actions.append(model.predict(np.ones((1, 5), np.float32))[0])
    np.testing.assert_array_equal(*actions)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_stock_training_gives_the_same_losses(algorithm: str, space: str) -> None:
    """With SB3's Adam, some steps of learn() end in the same weights, but for the last bit."""
    theirs, ours = pair(algorithm, SPACES[space], optimizer_kwargs={"fused": False})
    for model in (theirs, ours):
        model.set_random_seed(5)
        model.learn(26)
    assert theirs.logger.name_to_value["train/critic_loss"] != 0
    for key in ("train/critic_loss", "train/actor_loss"):
        assert theirs.logger.name_to_value[key] == ours.logger.name_to_value[key]
    for name, weights in theirs.policy.state_dict().items():
        th.testing.assert_close(weights, ours.policy.state_dict()[name], rtol=1e-6, atol=1e-7)


def test_fused_adam_makes_the_same_step() -> None:
    """The fused Adam of the default rounds differently, no more."""
    theirs, ours = pair("sac", BOX)
    assert ours.policy.critic.optimizer.defaults["fused"]
    for model in (theirs, ours):
        model.set_random_seed(5)
        model.learn(24)
    for name, weights in theirs.policy.state_dict().items():
        th.testing.assert_close(weights, ours.policy.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_the_choice_of_another_adam_stands() -> None:
    policy = SACPolicy(
        BOX, RandomEnv.action_space, lambda _: 1e-3, optimizer_kwargs={"foreach": True}
    )
    assert policy.actor.optimizer.defaults["foreach"]
    assert not policy.actor.optimizer.defaults["fused"]


def test_modules_are_visited_only_when_the_mode_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make_ours("sac", BOX).policy
    observations = np.zeros((1, 5), np.float32)
    visits = []
    original = nn.Module.train
    monkeypatch.setattr(
        nn.Module, "train", lambda m, mode=True: visits.append(m) or original(m, mode)
    )
    policy.set_training_mode(True)
    assert len(visits) == 0
    policy.predict(observations)
    assert len(visits) > 0
    visits.clear()
    policy.predict(observations)
    policy.set_training_mode(False)
    assert len(visits) == 0


def test_a_mode_set_on_a_part_is_noticed() -> None:
    ours = make_ours("td3", BOX)
    ours.policy.set_training_mode(False)
    ours.policy.actor.train()
    ours.policy.set_training_mode(False)
    assert not any(m.training for m in ours.policy.actor.modules())


def test_hooks_on_layers_are_called() -> None:
    ours = make_ours("td3", BOX)
    seen = []
    ours.policy.actor.mu[1].register_forward_hook(lambda *args: seen.append(args))
    ours.predict(np.zeros((1, 5), np.float32))
    assert len(seen) == 1


def test_a_copy_acts_with_its_own_weights() -> None:
    ours = make_ours("sac", DICT)
    observations = ours.get_env().reset()
    before = ours.predict(observations, deterministic=True)[0]
    twin = copy.deepcopy(ours.policy)
    with th.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(ours.predict(observations, deterministic=True)[0], before)
    # A zero mean is the middle of the action space.
    np.testing.assert_allclose(twin.predict(observations, deterministic=True)[0], [[1.0, 0.25]])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("where", [True, "actor", "critic"])
def test_layer_norm_sits_between_hidden_layers_and_activations(algorithm: str, where: Any) -> None:
    ours = make_ours(algorithm, BOX, layer_norm=where)
    policy = ours.policy
    actor = policy.actor.latent_pi if hasattr(policy.actor, "latent_pi") else policy.actor.mu
    hidden = ["Linear", "LayerNorm", "ReLU"] * 2
    bare = ["Linear", "ReLU"] * 2
    end = [] if hasattr(policy.actor, "latent_pi") else ["Linear", "Tanh"]
    names = [type(m).__name__ for m in actor]
    assert names == (hidden if where in (True, "actor") else bare) + end
    for critic in (policy.critic, policy.critic_target):
        assert len(critic.q_networks) == (1 if algorithm == "ddpg" else 2)
        registered = [m for m in critic.children() if isinstance(m, nn.Sequential)]
        assert registered == list(critic.q_networks)
        for q in critic.q_networks:
            names = [type(m).__name__ for m in q]
            assert names == (hidden if where in (True, "critic") else bare) + ["Linear"]
    optimized = {id(p) for g in policy.critic.optimizer.param_groups for p in g["params"]}
    assert optimized == {id(p) for p in policy.critic.parameters()}
    ours.learn(24)


def test_layer_norm_computes_what_the_formula_says() -> None:
    policy = TD3Policy(BOX, RandomEnv.action_space, lambda _: 1e-3, net_arch=[8], layer_norm=True)
    observation = np.linspace(-1, 1, 5, dtype=np.float32)[None]
    first, _, _, last, _ = policy.actor.mu
    x = observation @ first.weight.detach().numpy().T + first.bias.detach().numpy()
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    x = np.tanh(np.maximum(x, 0) @ last.weight.detach().numpy().T + last.bias.detach().numpy())
    action = policy.predict(observation)[0]
    np.testing.assert_allclose(action, policy.unscale_action(x), rtol=1e-5)


def test_a_wrong_layer_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="layer_norm='both': must be False, True"):
        SACPolicy(BOX, RandomEnv.action_space, lambda _: 1e-3, layer_norm="both")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_policy_saved_alone_loads_with_its_options(algorithm: str, tmp_path: Any) -> None:
    ours = make_ours(algorithm, DICT, layer_norm="critic", share_features_extractor=True)
    ours.policy.save(tmp_path / "policy")
    loaded = type(ours.policy).load(tmp_path / "policy")
    assert loaded.layer_norm == "critic"
    assert loaded.share_features_extractor
    observations = ours.get_env().reset()
    np.testing.assert_array_equal(
        loaded.predict(observations, deterministic=True)[0],
        ours.predict(observations, deterministic=True)[0],
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("space", ["box", "dict", "image"])
def test_a_policy_saved_alone_loads_with_sb3s_class(
    algorithm: str, space: str, tmp_path: Any
) -> None:
    ours = make_ours(algorithm, SPACES[space])
    ours.policy.save(tmp_path / "policy")
    module = sb3_contrib.tqc if algorithm == "tqc" else getattr(sb3, algorithm)
    name = {"box": "MlpPolicy", "dict": "MultiInputPolicy", "image": "CnnPolicy"}[space]
    loaded = getattr(module, name).load(tmp_path / "policy")
    assert not isinstance(loaded, type(ours.policy))
    observations = ours.get_env().reset()
    np.testing.assert_allclose(
        loaded.predict(observations, deterministic=True)[0],
        ours.predict(observations, deterministic=True)[0],
        rtol=1e-5,
    )


LOAD = """
import sys
import numpy as np
import stable_baselines3, sb3_contrib
name, folder = sys.argv[1:]
module = sb3_contrib if name == "TQC" else stable_baselines3
model = getattr(module, name).load(folder + "/model")
assert type(model.policy).__module__ == "pyrl_sb3.policies"
observations = np.load(folder + "/observations.npy")
np.save(folder + "/actions.npy", model.predict(observations, deterministic=True)[0])
"""


@pytest.mark.parametrize("algorithm", ["sac", pytest.param("td3", marks=pytest.mark.learning)])
def test_a_stock_model_with_our_policy_loads_in_a_fresh_interpreter(
    algorithm: str, tmp_path: Any
) -> None:
    ours = make_ours(algorithm, BOX, layer_norm=True)
    ours.learn(40)
    ours.save(tmp_path / "model")
    observations = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    np.save(tmp_path / "observations.npy", observations)
    arguments = [sys.executable, "-c", LOAD, type(ours).__name__, str(tmp_path)]
    subprocess.run(arguments, check=True)
    np.testing.assert_array_equal(
        np.load(tmp_path / "actions.npy"), ours.predict(observations, deterministic=True)[0]
    )


def test_training_goes_on_after_loading_as_if_it_had_not_stopped(tmp_path: Any) -> None:
    """Weights and Adam's moments survive: the next step is the one that would have come."""
    ours = make_ours("sac", BOX)
    ours.learn(40)
    ours.save(tmp_path / "model")
    loaded = sb3.SAC.load(tmp_path / "model", env=make_env(BOX))
    loaded.replay_buffer = ours.replay_buffer
    loaded.set_logger(ours.logger)
    for model in (ours, loaded):
        np.random.seed(0)
        th.manual_seed(0)
        model.train(gradient_steps=3, batch_size=16)
    for name, weights in ours.policy.state_dict().items():
        assert th.equal(weights, loaded.policy.state_dict()[name]), name


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_policies_act_by_their_layers_unless_something_was_put_in_their_place(
    algorithm: str,
) -> None:
    policy = make_ours(algorithm, BOX).policy
    assert policy._acts_plainly()
    if getattr(policy.actor, "action_dist", None):
        policy.actor.action_dist.mode = lambda: th.zeros(1, 2)
        assert not policy._acts_plainly()

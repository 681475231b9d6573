"""Names of policies mean what they mean in SB3; classes choose by the observations."""

import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN

import pyrl_sb3
from pyrl_sb3.networks import SmallImagesExtractor

BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (3, 36, 36), np.uint8)
OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "vector": BOX,
    "image": IMAGE,
    "small image": spaces.Box(0, 255, (3, 7, 7), np.uint8),
    "channels last": spaces.Box(0, 255, (36, 36, 3), np.uint8),
    "float image": spaces.Box(0.0, 1.0, (3, 36, 36), np.float32),
    "dict": spaces.Dict(vector=BOX, image=IMAGE),
    "number": spaces.Discrete(4),
}
NAMES = ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")
CONTINUOUS, DISCRETE = spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(2)


class Env(gym.Env[Any, Any]):
    def __init__(self, observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observations, actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


def make(package: Any, algorithm: str, policy: Any, kind: str, **policy_kwargs: Any) -> Any:
    discrete = algorithm in ("DQN", "DiscreteSAC")
    env = Env(OBSERVATIONS[kind], DISCRETE if discrete else CONTINUOUS)
    keywords: dict[str, Any] = {"buffer_size": 10, "device": "cpu", "seed": 0}
    policy_kwargs = {"net_arch": [4], **policy_kwargs}
    cls = getattr(package, algorithm)
    return cls(policy, env, policy_kwargs=policy_kwargs, **keywords)


def extractor(model: Any) -> type:
    network = model.q_net if hasattr(model, "q_net") else model.actor
    return type(network.features_extractor)


def outcome(*args: Any, **kwargs: Any) -> Any:
    """The features extractor, or with which error there is none."""
    try:
        return extractor(make(*args, **kwargs))
    except (AssertionError, AttributeError, RuntimeError, ValueError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("kind", OBSERVATIONS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("algorithm", ["SAC", "TD3", "DDPG", "DQN"])
def test_a_name_has_the_extractor_of_sb3(
    algorithm: str, name: str, kind: str, normalize: bool
) -> None:
    theirs, ours = (
        outcome(package, algorithm, name, kind, normalize_images=normalize)
        for package in (sb3, pyrl_sb3)
    )
    if name == "MultiInputPolicy" and kind != "dict":  # which SB3 does not say
        space = type(OBSERVATIONS[kind]).__name__
        assert theirs == (AttributeError, f"'{space}' object has no attribute 'spaces'")
        assert ours[0] is ValueError
        assert re.fullmatch(
            rf"MultiInputPolicy reads dicts of observations, not {space}\(.*\): "
            "choose MlpPolicy, or CnnPolicy for images",
            ours[1],
        )
        return
    assert ours == theirs


def test_names_of_discrete_sac_are_as_those_of_the_others() -> None:
    assert outcome(pyrl_sb3, "DiscreteSAC", "MlpPolicy", "image") is FlattenExtractor
    assert outcome(pyrl_sb3, "DiscreteSAC", "CnnPolicy", "vector")[0] is AssertionError


@pytest.mark.parametrize(
    ("kind", "chosen"),
    [
        ("vector", FlattenExtractor),
        ("image", NatureCNN),
        ("small image", FlattenExtractor),
        ("float image", FlattenExtractor),
        ("dict", CombinedExtractor),
    ],
)
def test_a_class_chooses_by_the_observations(kind: str, chosen: type) -> None:
    assert outcome(pyrl_sb3, "SAC", pyrl_sb3.SACPolicy, kind) is chosen
    assert outcome(pyrl_sb3, "DQN", pyrl_sb3.DQNPolicy, kind) is chosen


def test_small_images_in_a_dict_are_flattened(monkeypatch: pytest.MonkeyPatch) -> None:
    small = spaces.Dict(image=OBSERVATIONS["small image"])
    monkeypatch.setitem(OBSERVATIONS, "small dict", small)
    assert outcome(pyrl_sb3, "SAC", "MultiInputPolicy", "small dict") is SmallImagesExtractor


@pytest.mark.parametrize("name", NAMES)
def test_an_extractor_that_is_given_stays(name: str) -> None:
    class Own(FlattenExtractor):
        pass

    kind = "dict" if name == "MultiInputPolicy" else "image"
    if kind == "image":
        given = {"features_extractor_class": Own}
        assert outcome(pyrl_sb3, "SAC", name, kind, **given) is Own
    given = {"features_extractor_class": SmallImagesExtractor}
    theirs, ours = (outcome(package, "SAC", name, kind, **given) for package in (sb3, pyrl_sb3))
    assert ours == theirs


def test_arguments_that_are_given_are_left_as_they_are() -> None:
    given = {"net_arch": [4]}
    env = Env(IMAGE, CONTINUOUS)
    keywords: dict[str, Any] = {"buffer_size": 10, "device": "cpu", "policy_kwargs": given}
    assert extractor(pyrl_sb3.TD3("MlpPolicy", env, **keywords)) is FlattenExtractor
    assert given == {"net_arch": [4]}
    # For vectors a file has what it always had, lest a load of it be told other arguments.
    model = make(pyrl_sb3, "TD3", "MlpPolicy", "vector")
    assert model.policy_kwargs == given


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy", pyrl_sb3.SACPolicy])
def test_files_are_read_by_both_packages(policy: Any, tmp_path: Path) -> None:
    model = make(pyrl_sb3, "SAC", policy, "image")
    model.save(tmp_path / "ours")
    observation = IMAGE.sample()
    for package in (pyrl_sb3, sb3):
        loaded = package.SAC.load(tmp_path / "ours", device="cpu")
        assert extractor(loaded) is extractor(model)
        actions = [each.predict(observation, deterministic=True)[0] for each in (model, loaded)]
        np.testing.assert_array_equal(*actions)
    if isinstance(policy, str):
        theirs = make(sb3, "SAC", policy, "image")
        theirs.save(tmp_path / "theirs")
        loaded = pyrl_sb3.SAC.load(tmp_path / "theirs", device="cpu")
        th.testing.assert_close(loaded.policy.state_dict(), theirs.policy.state_dict())
        loaded.save(tmp_path / "again")
        assert extractor(pyrl_sb3.SAC.load(tmp_path / "again", device="cpu")) is extractor(theirs)


def test_a_file_in_which_a_name_chose_by_the_observations_is_read(tmp_path: Path) -> None:
    model = make(pyrl_sb3, "SAC", pyrl_sb3.SACPolicy, "image")
    assert "features_extractor_class" not in model.policy_kwargs  # as "MlpPolicy" was saved once
    model.save(tmp_path / "old")
    assert extractor(pyrl_sb3.SAC.load(tmp_path / "old", device="cpu")) is NatureCNN

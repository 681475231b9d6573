"""
RL Zoo's own files, entry by entry, against what its own manager makes of them.

`zoo/*.yml` are the files of rl_zoo3 2.9.2, unchanged (MIT, see `zoo/LICENSE`); `zoo/forms/` has the
forms that these leave out. `zoo/make_processed.py` ran rl_zoo3's manager on all of them.
"""

import json
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import yaml
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.preprocessing import get_action_dim

from pyrl_sb3.config import ConfigError, Experiment, read_experiment, wrapping
from pyrl_sb3.config.algorithms import algorithm_class
from pyrl_sb3.config.documents import Document, read_document
from pyrl_sb3.config.entries import choose_entry
from pyrl_sb3.config.zoo import layers

ZOO = Path(__file__).parent / "zoo"
PROCESSED = json.loads((ZOO / "processed.json").read_text())
ENTRIES = [(file, entry) for file, entries in PROCESSED.items() for entry in entries]
ENTRY_IDS = ["/".join(each) for each in ENTRIES]
ACTION_DIM = 3
PROGRESS = (1.0, 0.75, 0.5, 0.1, 0.0)
# The one class that is not the zoo's but a subclass of it, on purpose.
OURS = {"pyrl_sb3.buffers.her.HerReplayBuffer": "stable_baselines3.her.her_replay_buffer"}


def class_path(cls: type) -> str:
    path = f"{cls.__module__}.{cls.__qualname__}"
    return f"{OURS[path]}.{cls.__name__}" if path in OURS else path


def plain(value: Any) -> Any:
    """As `zoo/make_processed.py` writes it."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return {"tuple": [plain(each) for each in value]}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, type):
        return {"class": class_path(value)}
    if type(value).__name__.endswith("ActionNoise"):
        return {
            "noise": type(value).__name__,
            "mean": value._mu.tolist(),
            "sigma": value._sigma.tolist(),
        }
    if callable(value):
        return {"schedule": pytest.approx([value(p) for p in PROGRESS], rel=1e-12, abs=0)}
    return value


def same_types(ours: Any, zoos: Any) -> bool:
    """Whether numbers are whole, broken or truth values in both; ``1 == 1.0 == True``."""
    if isinstance(ours, dict):
        return all(same_types(ours[key], zoos[key]) for key in ours)
    if isinstance(ours, list):
        return all(same_types(*pair) for pair in zip(ours, zoos, strict=True))
    return type(ours) is type(zoos) or type(ours).__name__.startswith("Approx")


def as_the_zoo(experiment: Experiment) -> dict[str, Any]:
    """What the zoo's manager would hold after processing."""
    arguments = experiment.model_arguments(ACTION_DIM)
    rate = arguments.get("learning_rate")
    if isinstance(rate, float):
        arguments["learning_rate"] = lambda progress: rate

    def named(references: Any) -> list[Any]:
        return [[each.name, dict(each.params)] for each in references]

    return {
        "arguments": plain(arguments),
        "n_timesteps": experiment.n_timesteps,
        "n_envs": experiment.n_envs,
        "normalize": experiment.normalize is not None,
        "normalize_kwargs": plain(experiment.normalize or {}),
        "frame_stack": experiment.frame_stack,
        "env_kwargs": plain(experiment.env_kwargs),
        "monitor_kwargs": plain(experiment.monitor_kwargs),
        "env_wrapper": named(experiment.env_wrapper),
        "vec_env_wrapper": named(experiment.vec_env_wrapper),
        "callback": [each.name for each in experiment.callback],
    }


def expected(file: str, entry: str) -> dict[str, Any]:
    """The recorded result, without what the zoo computes and never uses."""
    zoos = dict(PROCESSED[file][entry])
    if not zoos["normalize"]:
        zoos["normalize_kwargs"] = {}
    return zoos


def short_paths(wrappers: list[Any]) -> list[Any]:
    """Paths without the modules between package and class: packages re-export."""
    return [
        [f"{path.partition('.')[0]}.{path.rpartition('.')[2]}", params] for path, params in wrappers
    ]


@pytest.mark.parametrize(("file", "entry"), ENTRIES, ids=ENTRY_IDS)
def test_every_entry_gives_what_the_zoo_makes_of_it(file: str, entry: str) -> None:
    stranger = entry.startswith("CarRacing")  # whose wrapper needs trust, see below
    experiment = read_experiment(ZOO / file, Path(file).stem, entry, trust=stranger)
    ours, zoos = as_the_zoo(experiment), expected(file, entry)
    for key in ("env_wrapper", "vec_env_wrapper"):
        ours[key], zoos[key] = short_paths(ours[key]), short_paths(zoos[key])
    ours["callback"] = [name.rpartition(".")[2] for name in ours["callback"]]
    zoos["callback"] = [name.rpartition(".")[2] for name in zoos["callback"]]
    # Monitor wants tuples; with the lists that the zoo hands on, it fails at its first line.
    zoos["monitor_kwargs"] = {
        key: {"tuple": value} if isinstance(value, list) else value
        for key, value in (zoos["monitor_kwargs"] or {}).items()
    }
    assert ours == zoos
    assert same_types(ours, zoos)


def test_all_entries_are_covered() -> None:
    for file, entries in PROCESSED.items():
        assert set(entries) == set(yaml.safe_load((ZOO / file).read_text()))
    files = {str(path.relative_to(ZOO)) for path in ZOO.rglob("*.yml")}
    assert files == set(PROCESSED)
    algorithms = {"ddpg", "td3", "sac", "tqc", "crossq", "dqn", "qrdqn"}
    assert {Path(file).stem for file in files} == algorithms
    own = [file for file, _ in ENTRIES if not file.startswith("forms/")]
    assert len(own) == 129


@pytest.mark.parametrize(
    ("file", "entry"), [("sac.yml", "CarRacing-v3"), ("tqc.yml", "CarRacing-v0")]
)
def test_a_wrapper_of_an_unknown_package_needs_trust(file: str, entry: str) -> None:
    with pytest.raises(ConfigError, match=r"ae\.wrapper.AutoencoderWrapper.*--trust") as caught:
        read_experiment(ZOO / file, Path(file).stem, entry)
    assert len(caught.value.problems) == 1


def test_wrappers_and_callbacks_can_be_built() -> None:
    experiment = read_experiment(ZOO / "forms/sac.yml", "sac", "wrappers")
    experiment.check_components()
    wrap = wrapping(experiment.env_wrapper)
    assert wrap is not None
    env = wrap(gymnasium.make("Pendulum-v1").unwrapped)
    assert isinstance(env, gymnasium.wrappers.ClipAction)
    assert env.env._max_steps == 500
    assert wrapping(()) is None
    callbacks = read_experiment(ZOO / "forms/sac.yml", "sac", "callbacks").callback
    first, second = [each.load()(**each.params) for each in callbacks]
    assert (first.max_episodes, second.save_freq) == (3, 10)


def test_atari_games_share_an_entry() -> None:
    games = read_experiment(ZOO / "dqn.yml", "dqn", "ALE/Pong-v5")
    assert (games.policy, games.frame_stack) == ("CnnPolicy", 4)
    assert games.source.endswith("dqn.yml: atari")
    assert read_experiment(ZOO / "dqn.yml", "dqn", "Other-v0").source.endswith("default")


@pytest.mark.parametrize(
    ("env_id", "entries", "found"),
    [
        ("OldPong-v4", ["atari", "default"], "atari"),
        ("ALE/Pong-v5", ["default"], "default"),
        ("ALE/Pong-v5", ["atari", "ALE/Pong-v5"], "ALE/Pong-v5"),
        ("Pendulum-v1", ["atari", "default"], "default"),
    ],
)
def test_games_with_names_of_their_own_are_of_atari_too(
    env_id: str, entries: list[str], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    game = EnvSpec("OldPong-v4", entry_point="ale_py.env:AtariEnv")
    monkeypatch.setitem(gymnasium.registry, game.id, game)
    assert choose_entry(Document("my.yml", {key: {} for key in entries}), env_id)[0] == found


def test_layers_that_are_no_numbers_of_units_are_left_alone() -> None:
    own = object()
    assert layers([own, 4.0]) == [own, 4]
    assert layers({"pi": (8,), "own": own}) == {"pi": (8,), "own": own}
    assert layers(None) is None
    for wrong in (0, True, None):
        with pytest.raises(ValueError, match="layers have a whole number of units from 1 on"):
            layers([wrong])


@pytest.mark.parametrize(
    ("file", "entry", "env_id"),
    [
        ("ddpg.yml", "MountainCarContinuous-v0", "MountainCarContinuous-v0"),
        ("td3.yml", "BipedalWalkerHardcore-v3", "Pendulum-v1"),
        ("sac.yml", "NeckEnvRelative-v2", "Pendulum-v1"),
        ("tqc.yml", "HopperBulletEnv-v0", "Pendulum-v1"),
        ("crossq.yml", "BipedalWalker-v3", "Pendulum-v1"),
        ("dqn.yml", "CartPole-v1", "CartPole-v1"),
        ("qrdqn.yml", "LunarLander-v3", "CartPole-v1"),
    ],
)
def test_the_algorithms_take_the_arguments(file: str, entry: str, env_id: str) -> None:
    """They are built, in an environment that is there, and take steps that learn."""
    algorithm = Path(file).stem
    small = ["learning_starts=2", "batch_size=4", "buffer_size=100", "train_freq=2"]
    overrides = [*small, "gradient_steps=1"]
    experiment = read_experiment(ZOO / file, algorithm, entry, overrides=overrides)
    env = gymnasium.make(env_id)
    arguments = experiment.model_arguments(get_action_dim(env.action_space))
    model = algorithm_class(algorithm)(env=env, **arguments).learn(6)
    assert model._n_updates > 0
    env.close()


def test_reading_costs_little() -> None:
    """The files are well within the bounds that keep hostile ones out."""
    sizes = {path.name: path.stat().st_size for path in ZOO.glob("*.yml")}
    assert max(sizes.values()) * 20 < 256 * 1024
    assert read_document(ZOO / "tqc.yml").data["A1Walking-v0"]["learning_starts"] == 10000

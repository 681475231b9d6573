"""The hyperparameters of a run: a config's entry, by default of the package's own files."""

import dataclasses
from pathlib import Path
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first

import pyrl_sb3
from pyrl_sb3.config import Experiment, read_experiment
from pyrl_sb3.config.documents import parse_yaml
from pyrl_sb3.config.overrides import Override
from pyrl_sb3.config.zoo import normalization
from pyrl_sb3.training.agents import AGENTS, find_agent
from pyrl_sb3.training.request import TrainingRequest

CONFIG = "config.yml"

# Goals and positions are lengths of centimetres: without scaling, networks see almost nothing.
_GOAL_NORMALIZATION: dict[str, Any] = {"norm_reward": False, "clip_obs": 5.0}


def packaged_config(agent: str) -> Path:
    """Return the file that comes with an agent: our own, or one of its plugin."""
    folder = Path(pyrl_sb3.__file__).parent / "hyperparams"
    if agent in AGENTS:
        return folder / f"{agent}.yml"
    return find_agent(agent).spec.config or folder / "plugin.yml"


def experiment_of(request: TrainingRequest) -> Experiment:
    """
    Return what was asked for, with a full `env_id`, read from the config and checked.

    Raises:
        ConfigError: with all that is wrong in the config.
    """
    overrides: list[str | Override] = [*_short_forms(request), *request.overrides]
    # Also for what goes with some numbers only, as `train_freq` does.
    if request.n_envs is not None:
        overrides.append(Override(("n_envs",), request.n_envs, f"--n-envs {request.n_envs}"))
    experiment = read_experiment(
        request.config or packaged_config(request.agent),
        request.agent,
        request.env_id,
        overrides=overrides,
        trust=request.trust,
    )
    experiment.check_components()
    return experiment


def _short_forms(request: TrainingRequest) -> list[Override]:
    return [
        Override((key,), _read(value, f"--{option}"), f"--{option} {value}")
        for option, key in (("noise", "noise"), ("buffer", "replay_buffer_class"))
        if (value := getattr(request, option)) is not None
    ]


def _read(text: str, where: str) -> Any:
    """A mapping as `--set` reads it; names are text, one of nothing too."""
    return parse_yaml(text, where).data if text.lstrip().startswith("{") else text


def for_goals(experiment: Experiment) -> Experiment:
    """Return the experiment for observations with a goal: normalised, unless it says how or not."""
    if "normalize" in experiment.given:
        return experiment
    given = {**experiment.given, "normalize": dict(_GOAL_NORMALIZATION)}
    normalize = normalization(_GOAL_NORMALIZATION, experiment.arguments.get("gamma"))
    return dataclasses.replace(experiment, given=given, normalize=normalize)


def with_normalized_keys(experiment: Experiment, observations: spaces.Space[Any]) -> Experiment:
    """
    Return the experiment with the keys to normalise, where it names none and they are not all.

    Of images `VecNormalize` makes floats, which no CNN reads, and what is no Box it refuses. This
    is for runs that begin: those from before it go on with all their keys.
    """
    normalize = experiment.normalize
    if (
        normalize is None
        or not normalize.get("norm_obs", True)
        or normalize.get("norm_obs_keys") is not None
        or not isinstance(observations, spaces.Dict)
        or experiment.vec_env_wrapper  # which may show others
    ):
        return experiment
    policy = experiment.arguments.get("policy_kwargs") or {}
    boxes = {key: part for key, part in observations.items() if isinstance(part, spaces.Box)}
    images = {
        key: is_image_space_channels_first(part)
        for key, part in boxes.items()
        # A CNN of others reads them as floats.
        if policy.get("normalize_images", True) and is_image_space(part)
    }
    if len(set(images.values())) > 1:  # SB3 turns all or none: no CNN can have them
        images = {}
    keys = [key for key in boxes if key not in images]
    if len(keys) == len(observations.spaces):
        return experiment
    normalize = {**normalize, "norm_obs_keys": keys}
    written = {key: normalize[key] for key in normalize if key != "gamma"}
    if "gamma" not in experiment.arguments and "gamma" in normalize:
        written["gamma"] = normalize["gamma"]
    given = {**experiment.given, "normalize": written}
    return dataclasses.replace(experiment, given=given, normalize=normalize)

"""Saved models and their statistics, read for acting, and as strangers' files unless trusted."""

import base64
import json
import logging
import textwrap
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import VecEnv

from pyrl_sb3.plugins import PluginError, saved
from pyrl_sb3.plugins.moved import moved_networks, network_class
from pyrl_sb3.plugins.records import stored_records
from pyrl_sb3.training.agents import AGENTS, NamedAgent, find_agent
from pyrl_sb3.training.errors import InputError, first_line
from pyrl_sb3.training.folders import with_zip
from pyrl_sb3.training.tensors import may_be_finite, tensors_of
from pyrl_sb3.training.untrusted import (
    AllocationLimit,
    check_archive,
    check_contents,
    check_stored,
    read_member,
    read_pickle,
    read_tensors,
)

log = logging.getLogger("pyrl_sb3")

_DATA, _POLICY, _VARIABLES = "data", "policy.pth", "pytorch_variables.pth"
_MOST_DATA, _SMALL_DATA = 64 * 2**20, 2**20
_MOST_WEIGHTS = 4 * 2**30
_MOST_VARIABLES = 2**20
# Building networks may take so many times what is saved of them, and for scratch so much more.
_TIMES = 4
_SPARE_TENSORS, _SPARE_BYTES = 100, 64 * 2**20


def load_model(
    path: Path | str,
    agent: NamedAgent | str,
    env: VecEnv,
    device: str,
    *,
    trust: bool = False,
    command: str = "test",
) -> OffPolicyAlgorithm:
    """
    Read a model for acting, not for further training: it gets no replay buffer to speak of.

    Unless trusted, the file is taken for a stranger's: of all that it holds, the spaces, the
    policy's class and arguments, and the weights are read, none of it by running code, and a new
    model gets them.

    Args:
        path: the `.zip`, which may be left out of its name.
        agent: the algorithm that it has to be of, such as `sac`.
        env: what it is to act in.
        device: PyTorch's name of it, such as `cpu`, or `auto`.
        trust: read it as SB3 does, which runs what it holds.
        command: of the agent that a model is of, for the advice where that is another one.

    Raises:
        InputError: the file is missing, truncated, something else, of another algorithm or
            environment, or would run code.
        MissingPluginError: its policy is of a plugin that is not installed.
    """
    path = with_zip(Path(path))
    if isinstance(agent, str):
        agent = find_agent(agent)
    check_archive(path)
    data = _data(path)
    _check_algorithm(path, agent, data, command)
    for line in saved.check_for_acting(path):
        log.info("%s", line)
    try:
        model = (
            _trusted(path, agent, env, device) if trust else _built(path, agent, env, device, data)
        )
    except (InputError, PluginError):
        raise
    except Exception as error:  # whatever a foreign file comes to
        raise InputError(f"{path} cannot be loaded: {complaint(error)}") from error
    for name, tensor in tensors_of(model.policy):
        if not may_be_finite(tensor):
            raise InputError(f"{path}: its weights {name} are not all finite numbers")
    return model


def saved_timesteps(path: Path) -> int | None:
    """Return the environment steps that a saved model has had; None where none can be read."""
    with suppress(InputError, KeyError, TypeError, ValueError, OverflowError):
        check_contents(path)  # without checksums, which would mean reading all weights
        return int(_data(path)["num_timesteps"])
    return None


def saved_temperature(path: Path) -> th.Tensor | None:
    """
    Return the logarithm of the temperature, ``(1,)``, that a saved model has learned; None where it
    has none. The archive is one that `load_model` has read.

    Raises:
        InputError: it is damaged.
    """
    content = read_member(path, _VARIABLES, _MOST_VARIABLES)
    try:
        variables = read_tensors(path, _VARIABLES, content, "cpu")
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path} cannot be loaded: {first_line(error)}") from error
    found = variables.get("log_ent_coef") if isinstance(variables, dict) else None
    if not isinstance(found, th.Tensor):
        return None
    if found.shape != (1,) or not may_be_finite(found):
        raise InputError(f"{path}: its log_ent_coef is not one finite number")
    return found.detach()


def _data(path: Path) -> dict[str, Any]:
    # SB3 stores it as it is, and JSON takes far more memory than bytes.
    most = min(_MOST_DATA, max(path.stat().st_size, _SMALL_DATA))
    content = read_member(path, _DATA, most)
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no model: its `data` is no JSON") from error
    if not isinstance(data, dict):
        raise InputError(f"{path} is no model: its `data` is no mapping")
    return data


def _check_algorithm(path: Path, agent: NamedAgent, data: Mapping[str, Any], command: str) -> None:
    if agent.recognizes(data):
        return
    fitting = [other.name for other in AGENTS.values() if other.recognizes(data)]
    advice = f"; try {fitting[0]}-{command}" if fitting else ""
    raise InputError(f"{path} is no {agent.title} model{advice}")


def _trusted(path: Path, agent: NamedAgent, env: VecEnv, device: str) -> OffPolicyAlgorithm:
    only_acting: dict[str, object] = {
        "action_noise": None,
        "replay_buffer_class": None,
        "replay_buffer_kwargs": {},
        "buffer_size": 1,
        # Functions are of one version of Python: another may crash as it calls them. Optimisers
        # demand a number above 0.
        "learning_rate": 1e-3,
        "lr_schedule": None,
        **moved_networks(path, stored_records(path)),
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Could not deserialize object")  # only_acting
        return agent.algorithm.load(path, env, device=device, custom_objects=only_acting)


def _built(
    path: Path, agent: NamedAgent, env: VecEnv, device: str, data: Mapping[str, Any]
) -> OffPolicyAlgorithm:
    policy = _value(path, data, "policy_class")
    keywords = _value(path, data, "policy_kwargs")
    if not (isinstance(policy, type) and issubclass(policy, BasePolicy)):
        raise InputError(f"{path}: its policy_class is no policy")
    if not isinstance(keywords, dict):
        raise InputError(f"{path}: its policy_kwargs are no mapping")
    env = agent.algorithm._wrap_env(env)
    found = [_value(path, data, f"{kind}_space") for kind in ("observation", "action")]
    if not all(isinstance(space, spaces.Space) for space in found):
        raise InputError(f"{path} is no model: its spaces are missing")
    check_for_correct_spaces(env, *found)
    tensors, size = _size(path)
    arguments: dict[str, Any] = {"policy_kwargs": _for_policies(keywords), "buffer_size": 1}
    if data.get("use_sde") is True:
        arguments["use_sde"] = True
    with AllocationLimit(
        tensors=_TIMES * tensors + _SPARE_TENSORS, size=_TIMES * size + _SPARE_BYTES
    ):
        model = agent.algorithm(policy, env, device=device, **arguments)
    # Read again: they are large, and not needed while networks are built.
    weights = read_tensors(path, _POLICY, read_member(path, _POLICY, _MOST_WEIGHTS), model.device)
    model.policy.load_state_dict(weights)
    steps = data.get("num_timesteps")
    model.num_timesteps = steps if isinstance(steps, int) else 0
    return model


def _size(path: Path) -> tuple[int, int]:
    """Return how many members the file of the weights has, and how many bytes."""
    content = read_member(path, _POLICY, _MOST_WEIGHTS)
    return check_stored(path, _POLICY, content), len(content)


def _for_policies(keywords: dict[str, Any]) -> dict[str, Any]:
    """Without what SB3 adds itself, and what it has written in other ways in earlier versions."""
    kept = {key: value for key, value in keywords.items() if key not in ("use_sde", "device")}
    match kept.get("net_arch"):
        case [dict() as only]:  # before SB3 1.8
            kept["net_arch"] = only
    return kept


def _value(path: Path, data: Mapping[str, Any], key: str) -> Any:
    """Return what a model was saved with; for `policy_kwargs` that may be missing."""
    value = data.get(key, {} if key == "policy_kwargs" else None)
    if not (isinstance(value, dict) and ":serialized:" in value):
        return value
    try:
        content = base64.b64decode(value[":serialized:"], validate=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {key} cannot be read: {first_line(error)}") from error
    moved = partial(network_class, stored_records(path))
    return read_pickle(content, f"{path}: {key}", moved)


def complaint(error: Exception) -> str:
    """Return the line of an error that says what is wrong, PyTorch's second one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Error(s) in loading"):
        return textwrap.shorten(f"its weights do not fit: {lines[1].rstrip('.:')}", 200)
    return textwrap.shorten(first_line(error), 300)

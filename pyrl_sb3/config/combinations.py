"""Settings that are right alone and impossible together."""

from collections.abc import Container, Iterator, Mapping
from typing import Any

from pyrl_sb3.config import zoo
from pyrl_sb3.errors import did_you_mean, short

# Arguments that only buffers with hindsight take.
OF_HINDSIGHT = frozenset({"goal_selection_strategy", "n_sampled_goal"})

Contradiction = tuple[tuple[str, ...], str]


def has_hindsight(buffer: Any) -> bool:
    """Whether it is a class of buffers with hindsight; by name, as loading SB3's takes long."""
    return any(cls.__name__ == "HerReplayBuffer" for cls in getattr(buffer, "__mro__", ()))


def contradictions(
    values: Mapping[str, Any],
    algorithm: type,
    arguments: Container[str],
    refused: Container[str] = (),
) -> Iterator[Contradiction]:
    """
    The keys, and what is wrong with them.

    :param values: An entry, read.
    :param arguments: What the algorithm's constructor takes.
    :param refused: Keys that the entry has, with a mistake: `values` may lack them.
    """
    yield from _noise(values, algorithm, arguments, refused)
    yield from _train_freq(values)
    yield from _buffer(values, refused)


def _noise(
    values: Mapping[str, Any],
    algorithm: type,
    arguments: Container[str],
    refused: Container[str],
) -> Iterator[Contradiction]:
    kind, std = values.get("noise_type"), values.get("noise_std")
    key = "noise" if values.get("noise") else "noise_type"
    if (values.get("noise") or kind is not None) and "action_noise" not in arguments:
        yield (key,), f"{algorithm.__name__} explores without action noise"
    if kind is not None and values.get("noise"):
        yield ("noise_type",), "noise says already which noise; leave one of them out"
    if isinstance(kind, str) and kind not in zoo.NOISES:
        advice = did_you_mean(kind, zoo.NOISES) or "; `noise` takes the noise of a plugin"
        yield ("noise_type",), f"no noise {short(kind)}: normal or ornstein-uhlenbeck{advice}"
    if kind is not None and std is None and "noise_std" not in refused:
        yield ("noise_type",), "needs noise_std, its standard deviation"
    if std is not None and kind is None and "noise_type" not in refused:
        yield ("noise_std",), "needs noise_type, normal or ornstein-uhlenbeck"


def _train_freq(values: Mapping[str, Any]) -> Iterator[Contradiction]:
    frequency = values.get("train_freq")
    unit = frequency[1] if isinstance(frequency, tuple) else "step"
    count = frequency[0] if isinstance(frequency, tuple) else frequency
    if unit not in ("step", "episode"):
        advice = did_you_mean(unit, ("step", "episode"))
        yield ("train_freq",), f"counts in step or episode, not {short(unit)}{advice}"
    elif unit == "episode" and values.get("n_envs", 1) > 1:
        yield ("train_freq",), "counting in episodes needs n_envs: 1"
    if count is not None and count < 1:
        yield ("train_freq",), f"must be at least 1, not {short(count)}"


def _buffer(values: Mapping[str, Any], refused: Container[str]) -> Iterator[Contradiction]:
    buffer = values.get("replay_buffer_class")
    keywords = values.get("replay_buffer_kwargs") or {}
    if has_hindsight(buffer):
        if values["policy"] in ("MlpPolicy", "CnnPolicy"):
            yield ("policy",), f"HerReplayBuffer needs MultiInputPolicy, not {values['policy']}"
        if values.get("frame_stack"):
            yield ("frame_stack",), "HerReplayBuffer needs goals that are not stacked"
    if "replay_buffer_class" in refused or "replay_buffer_kwargs" in refused:
        return
    if not buffer and OF_HINDSIGHT & keywords.keys():
        yield ("replay_buffer_kwargs",), "needs replay_buffer_class: HerReplayBuffer"
    saves = values.get("optimize_memory_usage")
    if saves and not buffer and keywords.get("handle_timeout_termination", True):
        keys = ("optimize_memory_usage",)
        yield keys, "needs replay_buffer_kwargs: dict(handle_timeout_termination=False)"

"""Returns of several steps, where a replay buffer is named."""

from collections.abc import Mapping
from typing import Any

from pyrl_sb3.errors import short
from pyrl_sb3.plugins.signature import parameters


def told_to_the_buffer(values: Mapping[str, Any], algorithm: type) -> dict[str, Any]:
    """
    The arguments, `n_steps` being the buffer's where its class is among them, and with the same
    `gamma`: there SB3 warns and takes one step (https://github.com/DLR-RM/stable-baselines3/issues/2274).

    :param values: Arguments of ``algorithm``.
    :raises ValueError: when the buffer has no `n_steps`, or has been given another.
    """
    buffer, n_steps = values.get("replay_buffer_class"), values.get("n_steps", 1)
    given = values.get("replay_buffer_kwargs") or {}
    if buffer is None or given.get("n_steps", n_steps) == n_steps == 1:
        return dict(values)
    known, _ = parameters(buffer)
    if "n_steps" not in known:
        raise ValueError(f"{buffer.__name__} has no argument n_steps")
    told = {"n_steps": n_steps, **given}
    if n_steps not in (1, told["n_steps"]):
        raise ValueError(f"replay_buffer_kwargs has n_steps: {short(told['n_steps'])}")
    if "gamma" in known:
        told.setdefault("gamma", values.get("gamma", parameters(algorithm)[0]["gamma"].default))
    rest = {key: value for key, value in values.items() if key != "n_steps"}
    return {**rest, "replay_buffer_kwargs": told}

"""What was read, as the tensors of a batch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples

from pyrl_sb3.buffers.table import Array


def put_goals(both: Mapping[str, Array], goals: Array) -> None:
    """Give the last transitions of `EpisodeStore.read_both` these goals, `(n, *goal_shape)`."""
    desired = both["desired_goal"]
    n = len(desired) // 2
    desired.reshape(2, n, *goals.shape[1:])[:, n - len(goals) :] = goals


class Observations(dict[str, th.Tensor]):
    """Observations by key that ``torch.cat`` joins key by key, as CrossQ asks of it."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """PyTorch asks this of whatever is not a tensor and knows how to be treated like one."""
        if func is not th.cat:
            return NotImplemented
        batches, *rest = args
        return cls(
            {
                key: th.cat([batch[key] for batch in batches], *rest, **(kwargs or {}))
                for key in batches[0]
            }
        )


def samples(
    both: Any,
    actions: Array,
    rewards: Array,
    dones: Array,
    device: th.device,
    discounts: Array | None = None,
) -> Any:
    """SB3's samples.

    :param both: observations, then next observations: `(2 * batch, ...)`, or such arrays by key
    :param actions: `(batch, action_dim)`
    :param rewards: one for each transition, of any shape
    :param dones: likewise
    :param device: that the samples are moved to
    :param discounts: `(batch, 1)`, of what follows returns over several steps
    """
    n = len(actions)
    # No tensor is split: PyTorch takes longer than numpy.
    kind: Any = DictReplayBufferSamples if isinstance(both, dict) else ReplayBufferSamples
    before: Any
    after: Any
    if isinstance(both, dict):
        before = Observations({key: th.from_numpy(value[:n]) for key, value in both.items()})
        after = Observations({key: th.from_numpy(value[n:]) for key, value in both.items()})
    else:
        before, after = th.from_numpy(both[:n]), th.from_numpy(both[n:])
    batch = kind(
        observations=before,
        actions=th.from_numpy(actions),
        next_observations=after,
        dones=th.from_numpy(dones.astype(np.float32).reshape(n, 1)),
        rewards=th.from_numpy(rewards.reshape(n, 1)),
        discounts=None if discounts is None else th.from_numpy(discounts),
    )
    return batch if device.type == "cpu" else kind(*(_moved(field, device) for field in batch))


def _moved(field: Any, device: th.device) -> Any:
    if isinstance(field, dict):
        return Observations({key: value.to(device) for key, value in field.items()})
    return field if field is None else field.to(device)

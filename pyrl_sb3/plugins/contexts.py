"""What the library tells a plugin's factory about the run it builds for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import numpy as np
    from gymnasium import spaces

    Arrays = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class NoiseContext:
    """
    What a noise process may depend on.

    :param action_space: Actions are scaled to [-1, 1] before the noise is added, as in SB3.
    :param rng: The generator to draw from; this environment's own unless the spec is `vectorized`.
    :param n_envs: 1 unless the spec is `vectorized`.
    :param max_episode_steps: Length limit of an episode in steps, where it has one.
    :param total_timesteps: Length of the training in environment steps, where known: of the
        `n_envs` environments together.
    :param learning_starts: How many of these are the warm-up, whose actions noise is not added to.
    """

    # A run that goes on may be longer than it was to be.
    not_restored: ClassVar[frozenset[str]] = frozenset({"total_timesteps"})

    action_space: "spaces.Box"
    rng: "np.random.Generator"
    n_envs: int = 1
    max_episode_steps: int | None = None
    total_timesteps: int | None = None
    learning_starts: int = 0


class SeedGroup(Protocol):
    """
    The copies of one agent that train together, as a synchronisation callback sees them.

    A group may have two members more; ask for them with ``getattr(group, name, None)``:

    - ``stop``: by which signal all copies have been told to stop, the same in all of them after
      each exchange; 0 for none. Copies that are stopped should stay as they are.
    - ``leave()``: called when the training ends, so that the others do not wait for this copy.
    """

    rank: int
    size: int

    def all_gather(self, value: "Arrays") -> "dict[int, Arrays]":
        """
        Exchange arrays with all copies; every living copy must call it equally often.

        :return: Rank -> that copy's `value`, in rank order; a copy that died is missing.
        """


@dataclass(frozen=True, kw_only=True)
class SyncContext:
    """
    What a synchronisation callback may depend on.

    :param group: The other copies.
    :param interval: Environment steps of one copy between two synchronisations.
    :param rng: Seeded alike in every copy, so that all draw the same; a checkpoint of a callback
        that holds its context keeps it.
    :param total_timesteps: Environment steps each copy will make, where known.
    """

    # As they are in the run that goes on, too.
    not_restored: ClassVar[frozenset[str]] = frozenset({"interval", "total_timesteps"})

    group: SeedGroup
    interval: int
    rng: "np.random.Generator"
    total_timesteps: int | None = None

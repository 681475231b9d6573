"""
The agent interface: what an algorithm may override, and what is then expected of it.

An agent is a subclass of SB3's `OffPolicyAlgorithm`, which has all of it but `train`, and more that
training uses, such as the replay buffer. These are the members that synchronisation and checks call
by name. `pyrl_sb3.testing.check_agent` checks what no type can say.
"""

from io import BufferedIOBase
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

Observation = NDArray[Any] | dict[str, NDArray[Any]]


@runtime_checkable
class Agent(Protocol):
    """
    An algorithm that learns to act, with SB3's names.

    Attributes:
        num_timesteps: environment steps that it has learned from, over all environments.
    """

    num_timesteps: int

    def predict(
        self,
        observation: Observation,
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """
        Act: return an action for each observation, shape (n_envs, *action shape), and `state`.

        Evaluations and films call it with `deterministic=True`.
        """
        ...

    def learn(
        self,
        total_timesteps: int,
        callback: Any = None,
        log_interval: int = 4,
        tb_log_name: str = "run",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """
        Take environment steps and train in between; a callback that returns False ends it.

        Evaluations, checkpoints and synchronisation are callbacks. A resumed run passes
        `reset_num_timesteps=False`.
        """
        ...

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """Take gradient steps on batches of the replay buffer; `learn` calls it."""
        ...

    def get_parameters(self) -> dict[str, dict[str, Any]]:
        """
        Return the states of networks and optimisers, by their names.

        SB3's leave out single variables, such as the temperature of SAC.
        """
        ...

    def set_parameters(
        self, load_path_or_dict: Any, exact_match: bool = True, device: Any = "auto"
    ) -> None:
        """Put in the state that `get_parameters` has returned."""
        ...

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        """
        Name all that training changes: networks and optimisers, and single variables.

        `save` writes what is named here, and synchronised copies exchange and aggregate it, as
        `AgentState` of `pyrl_sb3.training.sync.state`; what is not named is lost. Private in SB3,
        and yet what its algorithms override.
        """
        ...

    def save(self, path: Any, exclude: Any = None, include: Any = None) -> None:
        """Write a `.zip` in SB3's format, from which `load` makes an equal agent."""
        ...

    @classmethod
    def load(
        cls,
        path: str | Path | BufferedIOBase,
        env: Any = None,
        device: Any = "auto",
        custom_objects: dict[str, Any] | None = None,
    ) -> Self:
        """Return the agent that was saved; the tests of runs give it an environment."""
        ...

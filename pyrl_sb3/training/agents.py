"""The agents that can be trained by name, and what each is made of."""

from dataclasses import dataclass, replace
from functools import cached_property
from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stable_baselines3.common.buffers import ReplayBuffer
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
    from stable_baselines3.common.policies import BasePolicy


@dataclass(frozen=True)
class Agent:
    """A named combination of algorithm, policy and replay buffer.

    Targets are strings and loaded on first use, so that listing agents loads neither torch nor SB3.
    """

    name: str
    algorithm_target: str
    policy_target: str
    buffer_target: str | None
    saved_mark: str  # a key that a saved model of this algorithm has, and the others' have not

    def stock(self) -> "Agent":
        """The same policy and buffer inside SB3's own algorithm."""
        name = self.algorithm_target.rpartition(":")[2]
        return replace(self, algorithm_target=f"stable_baselines3:{name}")

    @property
    def is_stock(self) -> bool:
        """Whether the algorithm is SB3's own."""
        return self.algorithm_target.startswith("stable_baselines3:")

    @property
    def registered(self) -> str:
        """The algorithm's name in the registry."""
        return f"pyrl/{self.name.removeprefix('her-')}"

    @property
    def title(self) -> str:
        """The algorithm as papers write it: `HER + SAC`."""
        return self.name.upper().replace("HER-", "HER + ")

    @property
    def needs_goal(self) -> bool:
        """Whether the environment must name a goal."""
        return self.name.startswith("her-")

    @cached_property
    def algorithm(self) -> "type[OffPolicyAlgorithm]":
        """The algorithm's class."""
        return resolve_name(self.algorithm_target)

    @cached_property
    def policy(self) -> "type[BasePolicy]":
        """The policy's class."""
        return resolve_name(self.policy_target)

    @cached_property
    def buffer(self) -> "type[ReplayBuffer] | None":
        """The replay buffer's class; None leaves the choice to the algorithm."""
        return resolve_name(self.buffer_target) if self.buffer_target else None


def _agents() -> dict[str, Agent]:
    algorithms = (
        ("sac", "pyrl_sb3:SAC", "pyrl_sb3:SACPolicy", "ent_coef"),
        ("td3", "pyrl_sb3:TD3", "pyrl_sb3:TD3Policy", "policy_delay"),
        ("ddpg", "pyrl_sb3:DDPG", "pyrl_sb3:DDPGPolicy", "policy_delay"),
    )
    buffers = (("", None), ("her-", "pyrl_sb3:HerReplayBuffer"))
    return {
        prefix + name: Agent(prefix + name, algorithm, policy, buffer, mark)
        for prefix, buffer in buffers
        for name, algorithm, policy, mark in algorithms
    }


AGENTS = _agents()

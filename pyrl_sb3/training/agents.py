"""The agents that can be trained by name, and what each is made of."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from pyrl_sb3.config.errors import did_you_mean
from pyrl_sb3.plugins import AlgorithmSpec, get_plugin_manager
from pyrl_sb3.plugins.lookup import BUILTIN
from pyrl_sb3.training.errors import InputError

if TYPE_CHECKING:
    from stable_baselines3.common.buffers import ReplayBuffer
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
    from stable_baselines3.common.policies import BasePolicy


@dataclass(frozen=True, kw_only=True)
class NamedAgent:
    """A named combination of algorithm, policy and replay buffer.

    Targets are strings and loaded on first use, so that listing agents loads neither torch nor SB3.
    """

    name: str
    algorithm_target: str = ""
    policy_target: str | None = None
    # Keys of its saved models' data that together no other algorithm's have, and some of others'.
    marks: frozenset[str] = frozenset()
    foreign_marks: frozenset[str] = frozenset()
    buffer_target: str | None = None
    # Whether its actions are numbers of choices; otherwise they are vectors.
    discrete: bool = False
    # Whether it takes both.
    any_actions: bool = False
    heading: str | None = None
    # Which the algorithm is of, and the arguments that it gives it.
    plugin: str = BUILTIN
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def stock(self) -> "NamedAgent":
        """
        The same policy and buffer inside SB3's own algorithm.

        Raises:
            InputError: SB3 has none.
        """
        if self.algorithm_target.startswith("sb3_contrib:"):
            return self
        if self.algorithm_target not in _ALSO_SB3S:
            raise InputError(f"--stock: SB3 has no {self.title}; leave it out")
        name = self.algorithm_target.rpartition(":")[2]
        return replace(self, algorithm_target=f"stable_baselines3:{name}")

    @property
    def is_stock(self) -> bool:
        """Whether the algorithm is SB3's own."""
        return self.plugin == BUILTIN and self.algorithm_target.startswith("stable_baselines3:")

    def made(self, data: Container[str]) -> bool:
        """Tell from the keys of a saved model's data whether it is of this algorithm."""
        return all(mark in data for mark in self.marks) and not any(
            mark in data for mark in self.foreign_marks
        )

    @property
    def registered(self) -> str:
        """The algorithm's name in the registry."""
        return f"{self.plugin}/{self.name.removeprefix('her-')}"

    @property
    def title(self) -> str:
        """The algorithm as papers write it: `HER + SAC`."""
        bare = self.name.removeprefix("her-")
        return ("HER + " if self.needs_goal else "") + (self.heading or bare.upper())

    @property
    def needs_goal(self) -> bool:
        """Whether the environment must name a goal."""
        return self.name.startswith("her-")

    @cached_property
    def algorithm(self) -> "type[OffPolicyAlgorithm]":
        """The algorithm's class."""
        if self.plugin != BUILTIN:
            cls: type[OffPolicyAlgorithm] = get_plugin_manager().load("algorithm", self.registered)
            return cls
        return resolve_name(self.algorithm_target)

    @cached_property
    def policy(self) -> "type[BasePolicy] | None":
        """The policy's class; None leaves the choice to the algorithm."""
        return resolve_name(self.policy_target) if self.policy_target else None

    @cached_property
    def buffer(self) -> "type[ReplayBuffer] | None":
        """The replay buffer's class; None leaves the choice to the algorithm."""
        return resolve_name(self.buffer_target) if self.buffer_target else None


_ALSO_SB3S = frozenset(f"pyrl_sb3:{name}" for name in ("DDPG", "DQN", "SAC", "TD3"))
_OF_DISCRETE_SAC = "target_entropy_scale"
_QUANTILES = "top_quantiles_to_drop_per_net"
_ALGORITHMS = (
    NamedAgent(
        name="sac",
        algorithm_target="pyrl_sb3:SAC",
        policy_target="pyrl_sb3:SACPolicy",
        marks=frozenset({"ent_coef", "target_update_interval"}),
        foreign_marks=frozenset({_QUANTILES, _OF_DISCRETE_SAC}),
    ),
    NamedAgent(
        name="td3",
        algorithm_target="pyrl_sb3:TD3",
        policy_target="pyrl_sb3:TD3Policy",
        marks=frozenset({"target_policy_noise"}),
    ),
    NamedAgent(
        name="ddpg",
        algorithm_target="pyrl_sb3:DDPG",
        policy_target="pyrl_sb3:DDPGPolicy",
        marks=frozenset({"target_policy_noise"}),
    ),
    NamedAgent(
        name="tqc",
        algorithm_target="sb3_contrib:TQC",
        policy_target="pyrl_sb3:TQCPolicy",
        marks=frozenset({_QUANTILES}),
    ),
    NamedAgent(
        name="crossq",
        algorithm_target="sb3_contrib:CrossQ",
        policy_target="pyrl_sb3:CrossQPolicy",
        marks=frozenset({"ent_coef", "policy_delay"}),
        heading="CrossQ",
    ),
    NamedAgent(
        name="dqn",
        algorithm_target="pyrl_sb3:DQN",
        policy_target="pyrl_sb3:DQNPolicy",
        marks=frozenset({"exploration_fraction"}),
        foreign_marks=frozenset({"n_quantiles"}),
        discrete=True,
    ),
    NamedAgent(
        name="qrdqn",
        algorithm_target="sb3_contrib:QRDQN",
        policy_target="pyrl_sb3:QRDQNPolicy",
        marks=frozenset({"exploration_fraction", "n_quantiles"}),
        discrete=True,
        heading="QR-DQN",
    ),
    NamedAgent(
        name="sac-discrete",
        algorithm_target="pyrl_sb3:DiscreteSAC",
        policy_target="pyrl_sb3:DiscreteSACPolicy",
        marks=frozenset({"ent_coef", _OF_DISCRETE_SAC}),
        discrete=True,
        heading="discrete SAC",
    ),
)


def _agents() -> dict[str, NamedAgent]:
    with_hindsight = [
        replace(agent, name=f"her-{agent.name}", buffer_target="pyrl_sb3:HerReplayBuffer")
        for agent in _ALGORITHMS
    ]
    return {agent.name: agent for agent in (*_ALGORITHMS, *with_hindsight)}


AGENTS = _agents()


def find_agent(name: str) -> NamedAgent:
    """
    Return the agent of that name: one of `AGENTS`, or one made of a plugin's algorithm.

    Raises:
        InputError: there is none.
        AmbiguousComponentError: several plugins have an algorithm of that name.
    """
    if name in AGENTS:
        return AGENTS[name]
    others = {agent.name: agent for agent in plugin_agents()}
    if name not in others:
        raise InputError(f"no algorithm {name!r}{did_you_mean(name, {**AGENTS, **others})}")
    get_plugin_manager().find("algorithm", name.removeprefix("her-"))
    return others[name]


def plugin_agents() -> Iterator[NamedAgent]:
    """Yield what the algorithms of plugins make: those that learn from a replay buffer."""
    for found in get_plugin_manager().components("algorithm"):
        spec, plugin = found.spec, found.name.partition("/")[0]
        assert isinstance(spec, AlgorithmSpec)
        if plugin == BUILTIN or spec.name in AGENTS or not spec.off_policy:
            continue
        agent = NamedAgent(
            name=spec.name,
            heading=spec.name,
            plugin=plugin,
            defaults=spec.defaults,
            discrete=spec.action_kinds == {"discrete"},
            any_actions=len(spec.action_kinds) > 1,
        )
        yield agent
        if "env" in spec.serves:
            yield replace(agent, name=f"her-{spec.name}", buffer_target="pyrl_sb3:HerReplayBuffer")

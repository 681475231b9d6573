"""The agents that can be trained by name, and what each is made of."""

from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from pyrl_sb3.errors import did_you_mean
from pyrl_sb3.plugins import AlgorithmSpec, get_plugin_manager
from pyrl_sb3.plugins.builtin import pyrl_algorithms
from pyrl_sb3.plugins.lookup import BUILTIN
from pyrl_sb3.training.errors import InputError

if TYPE_CHECKING:
    from stable_baselines3.common.buffers import ReplayBuffer
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
    from stable_baselines3.common.policies import BasePolicy


@dataclass(frozen=True, kw_only=True)
class NamedAgent:
    """
    A registered algorithm, with or without hindsight: what a command trains.

    Classes are loaded on first use, so that listing agents loads neither torch nor SB3.

    Attributes:
        spec: the algorithm.
        plugin: that registers it.
        needs_goal: whether it learns with hindsight, and the environment must name a goal.
        is_stock: whether the algorithm is SB3's own, in the place of ours.
        heading: the algorithm's name as papers write it; its name in capitals by default.
        marks: keys that the data of its saved models have.
        foreign_marks: keys that they lack, and models of other algorithms with these marks have.
    """

    spec: AlgorithmSpec
    plugin: str = BUILTIN
    needs_goal: bool = False
    is_stock: bool = False
    heading: str | None = None
    marks: frozenset[str] = frozenset()
    foreign_marks: frozenset[str] = frozenset()

    def stock(self) -> "NamedAgent":
        """
        The same policy and buffer inside SB3's own algorithm, or sb3-contrib's.

        Raises:
            InputError: they have none.
        """
        if str(self.spec.target).startswith("sb3_contrib:"):
            return self
        if self.plugin != BUILTIN or self.spec.name not in _ALSO_SB3S:
            raise InputError(f"--stock: SB3 has no {self.title}; leave it out")
        return replace(self, is_stock=True)

    def recognizes(self, data: Container[str]) -> bool:
        """Tell from the keys of a saved model's data whether it is of this algorithm."""
        return all(mark in data for mark in self.marks) and not any(
            mark in data for mark in self.foreign_marks
        )

    @property
    def name(self) -> str:
        """What its commands begin with: `her-sac`."""
        return ("her-" if self.needs_goal else "") + self.spec.name

    @property
    def registered(self) -> str:
        """The algorithm's name in the registry."""
        return f"{self.plugin}/{self.spec.name}"

    @property
    def title(self) -> str:
        """The algorithm as papers write it: `HER + SAC`."""
        return ("HER + " if self.needs_goal else "") + (self.heading or self.spec.name.upper())

    @property
    def discrete(self) -> bool:
        """Whether its actions are always numbers of choices."""
        return self.spec.action_kinds == {"discrete"}

    @property
    def any_actions(self) -> bool:
        """Whether it takes both numbers of choices and vectors."""
        return len(self.spec.action_kinds) > 1

    @cached_property
    def algorithm(self) -> "type[OffPolicyAlgorithm]":
        """The algorithm's class."""
        if self.is_stock:
            return resolve_name(f"stable_baselines3:{self.spec.name.upper()}")
        cls: type[OffPolicyAlgorithm] = get_plugin_manager().load("algorithm", self.registered)
        return cls

    @cached_property
    def policy(self) -> "type[BasePolicy] | None":
        """The policy's class; None leaves the choice to the algorithm."""
        return get_plugin_manager().load("policy", self.spec.policy)

    @cached_property
    def buffer(self) -> "type[ReplayBuffer] | None":
        """The replay buffer's class; None leaves the choice to the algorithm."""
        return resolve_name("pyrl_sb3:HerReplayBuffer") if self.needs_goal else None


_ALSO_SB3S = ("ddpg", "dqn", "sac", "td3")
_OF_DISCRETE_SAC = "target_entropy_scale"
_QUANTILES = "top_quantiles_to_drop_per_net"


def _agents() -> dict[str, NamedAgent]:
    specs = {spec.name: spec for spec in pyrl_algorithms()}

    def agent(
        name: str, *marks: str, foreign: tuple[str, ...] = (), heading: str | None = None
    ) -> NamedAgent:
        return NamedAgent(
            spec=specs[name],
            marks=frozenset(marks),
            foreign_marks=frozenset(foreign),
            heading=heading,
        )

    of_sac = ("ent_coef", "target_update_interval")
    plain = (
        agent("sac", *of_sac, foreign=(_QUANTILES, _OF_DISCRETE_SAC)),
        agent("td3", "target_policy_noise"),
        agent("ddpg", "target_policy_noise"),
        agent("tqc", _QUANTILES),
        agent("crossq", "ent_coef", "policy_delay", heading="CrossQ"),
        agent("dqn", "exploration_fraction", foreign=("n_quantiles",)),
        agent("qrdqn", "exploration_fraction", "n_quantiles", heading="QR-DQN"),
        agent("sac-discrete", "ent_coef", _OF_DISCRETE_SAC, heading="discrete SAC"),
    )
    with_hindsight = [replace(each, needs_goal=True) for each in plain]
    return {each.name: each for each in (*plain, *with_hindsight)}


AGENTS = _agents()


def find_agent(name: str, *, stock: bool = False) -> NamedAgent:
    """
    Return the agent of that name, one of `AGENTS` or one made of a plugin's algorithm; or with
    `stock` what its method of that name returns.

    Raises:
        InputError: there is none.
        AmbiguousComponentError: several plugins have an algorithm of that name.
    """
    if stock:
        return find_agent(name).stock()
    if name in AGENTS:
        return AGENTS[name]
    others = {agent.name: agent for agent in plugin_agents()}
    if name not in others:
        refuse_without_replay(name)
        nearest = did_you_mean(name, {**AGENTS, **others})
        absent = get_plugin_manager().absent()
        raise InputError("; ".join([f"no algorithm {name!r}{nearest}", *absent]))
    get_plugin_manager().find("algorithm", name.removeprefix("her-"))
    return others[name]


def plugin_agents() -> Iterator[NamedAgent]:
    """Yield what the algorithms of plugins make: those that learn from a replay buffer."""
    for spec, plugin in _of_plugins():
        if spec.name in AGENTS or not spec.off_policy:
            continue
        agent = NamedAgent(spec=spec, plugin=plugin, heading=spec.name)
        yield agent
        if "env" in spec.serves:
            yield replace(agent, needs_goal=True)


def refuse_without_replay(name: str) -> None:
    """Raise InputError if that is the name of an algorithm, but of none that can be trained."""
    bare = name.removeprefix("her-")
    for spec, plugin in _of_plugins():
        if spec.name != bare:
            continue
        if not spec.off_policy:
            raise InputError(
                f"{plugin}/{bare} learns from no replay buffer, and commands train none such; "
                "its own `learn` does, in Python"
            )
        if "env" not in spec.serves:
            raise InputError(
                f"{plugin}/{bare} does not say that it serves hindsight (`serves` lacks env); "
                f"without hindsight use {bare}"
            )


def without_commands() -> Iterator[tuple[str, str]]:
    """Yield those of plugins, by full name, whose commands are of an agent of ours, and which."""
    for spec, plugin in _of_plugins():
        if spec.off_policy and spec.name in AGENTS:
            yield f"{plugin}/{spec.name}", AGENTS[spec.name].registered


def _of_plugins() -> Iterator[tuple[AlgorithmSpec, str]]:
    for found in get_plugin_manager().components("algorithm"):
        plugin = found.name.partition("/")[0]
        assert isinstance(found.spec, AlgorithmSpec)
        if plugin != BUILTIN:
            yield found.spec, plugin

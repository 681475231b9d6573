"""What every agent must fulfil. Each check is a function; `check_agent` runs all."""

import io
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from pyrl_sb3.plugins.lookup import qualified_name
from pyrl_sb3.testing.drift import Drift
from pyrl_sb3.testing.require import require, run
from pyrl_sb3.training.sync.averages import combined
from pyrl_sb3.training.sync.state import AgentState, read_state, write_state
from pyrl_sb3.training.tensors import tensors_of

STEPS = 40
SMALL = {
    "buffer_size": 200,
    "learning_starts": 16,
    "batch_size": 8,
    "policy_kwargs": {"net_arch": [8]},
}


class Choose(Drift):
    """Drift with three choices: to push left, not at all, or right."""

    action_space = spaces.Discrete(3)  # type: ignore[assignment]

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        return super().step(np.array([float(action) - 1]))


@dataclass(frozen=True, kw_only=True)
class AgentCase:
    """An agent to check: its class, the arguments of its constructor, the kind of actions."""

    cls: type[Any]
    params: Mapping[str, Any] = field(default_factory=dict)
    actions: str = "box"

    def env(self) -> gym.Env[Any, Any]:
        """Return a small environment, with episodes of 8 steps."""
        return Drift() if self.actions == "box" else Choose()

    def make(self, seed: int = 0) -> Any:
        """Return an untrained agent."""
        keywords = {"policy": "MlpPolicy", "device": "cpu", **SMALL, **self.params}
        # A copy, since SB3 changes policy_kwargs.
        return self.cls(env=self.env(), seed=seed, **deepcopy(keywords))

    def trained(self, seed: int = 0) -> Any:
        """Return an agent that has learned for a few steps."""
        agent = self.make(seed)
        agent.learn(STEPS)
        return agent


def is_off_policy(case: AgentCase) -> None:
    """It is one of SB3's algorithms with a replay buffer, and has all that those have."""
    fits = isinstance(case.cls, type) and issubclass(case.cls, OffPolicyAlgorithm)
    require(fits, f"{qualified_name(case.cls)} is no OffPolicyAlgorithm of SB3's")
    agent = case.make()
    require(agent.num_timesteps == 0, "an untrained agent has num_timesteps other than 0")


def actions_are_valid(case: AgentCase) -> None:
    """`predict` gives actions of the space, and without exploration the same ones again."""
    agent, space = case.make(), case.env().action_space
    for observation in OBSERVATIONS:
        action, _ = agent.predict(observation)
        require(space.contains(action), f"predict gives {action!r}, which is not in {space}")
    require(np.array_equal(_acts(agent), _acts(agent)), "deterministic actions differ")


def learning_learns(case: AgentCase) -> None:
    """`learn` counts the steps, changes the state after the warm-up, and stops when asked to."""
    agent = case.make()
    before = read_state(agent)
    require(agent.learn(STEPS) is agent, "learn does not return the agent")
    counted = agent.num_timesteps
    require(counted == STEPS, f"num_timesteps is {counted} after {STEPS} steps")
    require(not same_state(before, read_state(agent)), f"{STEPS} steps of learning change nothing")
    agent.learn(STEPS, callback=lambda *_: False)
    require(agent.num_timesteps == 1, "learn goes on though a callback returns False")


def train_takes_gradient_steps(case: AgentCase) -> None:
    """`train` changes the state, by itself."""
    agent = case.trained()
    before = read_state(agent)
    agent.train(gradient_steps=4, batch_size=8)
    require(not same_state(before, read_state(agent)), "train changes nothing")


def seeds_decide(case: AgentCase) -> None:
    """The same seed gives the same agent, another seed another."""
    first, again, other = (read_state(case.trained(seed)) for seed in (0, 0, 1))
    require(same_state(first, again), "two executions with one seed end differently")
    require(not same_state(first, other), "the seed has no influence")


def state_is_all(case: AgentCase) -> None:
    """An agent given another one's parameters acts as it does, optimisers included."""
    agent, twin = case.trained(), case.make(seed=1)
    twin.set_parameters(agent.get_parameters())
    require(np.array_equal(_acts(twin), _acts(agent)), "set_parameters leaves it acting otherwise")
    _, variables = agent._get_torch_save_params()  # which SB3's get_parameters leaves out
    same = same_state(read_state(twin), read_state(agent), besides=variables)
    require(same, "set_parameters leaves out some state")


def states_can_be_aggregated(case: AgentCase) -> None:
    """A copy takes over the mean of two, and trains on from it."""
    one, other = case.trained(0), case.trained(1)
    middle = combined([read_state(one), read_state(other)], [0.5, 0.5])
    write_state(one, middle)
    write_state(other, middle)
    require(np.array_equal(_acts(one), _acts(other)), "copies of one state act differently")
    one.train(gradient_steps=1, batch_size=8)
    require(not same_state(middle, read_state(one)), "it does not train on from another's state")


def saved_agents_go_on(case: AgentCase) -> None:
    """A loaded agent is the saved one: it acts alike, has the same state, and learns on."""
    agent, file = case.trained(), io.BytesIO()
    agent.save(file)
    file.seek(0)
    twin = case.cls.load(file, env=case.env(), device="cpu")
    require(np.array_equal(_acts(twin), _acts(agent)), "a loaded agent acts otherwise")
    require(same_state(read_state(twin), read_state(agent)), "a loaded agent has another state")
    kept, learned = _learned(twin), _learned(agent)
    lost = [name for name, value in learned.items() if not _same(kept.get(name), value)]
    require(not lost, f"a loaded agent has lost {', '.join(lost[:3])}")
    require(twin.num_timesteps == STEPS, "a loaded agent has forgotten num_timesteps")
    twin.set_logger(agent.logger)
    batches = deepcopy(agent.replay_buffer)
    saved, loaded = (_trained_on(each, deepcopy(batches)) for each in (agent, twin))
    require(same_state(saved, loaded), "a loaded agent learns on otherwise than the saved one")
    twin.learn(STEPS, reset_num_timesteps=False)
    counted = twin.num_timesteps
    require(counted == 2 * STEPS, f"num_timesteps is {counted} after {STEPS} further steps")
    require(not same_state(read_state(twin), read_state(agent)), "a loaded agent does not learn")


def _trained_on(agent: Any, batches: Any) -> AgentState:
    """The state after some gradient steps on a buffer, which all generators begin alike for."""
    th.manual_seed(0)
    np.random.seed(0)
    own, agent.replay_buffer = agent.replay_buffer, batches
    agent.train(gradient_steps=4, batch_size=8)
    agent.replay_buffer = own
    return read_state(agent)


def _learned(agent: Any) -> dict[str, th.Tensor]:
    """All that training may have changed, whether or not the agent says that it saves it."""
    found = {f"policy.{name}": value for name, value in tensors_of(agent.policy)}
    owners = {"": agent, "policy.": agent.policy}
    owners |= {f"{part}.": getattr(agent, part, None) for part in ("actor", "critic")}
    for prefix, owner in owners.items():
        for name, value in getattr(owner, "__dict__", {}).items():
            if isinstance(value, th.Tensor):
                found[prefix + name] = value.detach()
            elif isinstance(value, th.optim.Optimizer):
                for number, state in value.state_dict()["state"].items():
                    found |= {f"{prefix}{name}.{number}.{k}": v for k, v in state.items()}
    return found


def _same(one: Any, other: Any) -> bool:
    return one is not None and bool(th.equal(th.as_tensor(one), th.as_tensor(other)))


AGENT_CHECKS: tuple[Callable[[AgentCase], None], ...] = (
    is_off_policy,
    actions_are_valid,
    learning_learns,
    train_takes_gradient_steps,
    seeds_decide,
    state_is_all,
    states_can_be_aggregated,
    saved_agents_go_on,
)
OBSERVATIONS = np.random.default_rng(0).normal(size=(8, 2))


def check_agent(
    cls: type[Any], params: Mapping[str, Any] | None = None, *, actions: str = "box"
) -> None:
    """
    Run all checks on `cls`, an off-policy algorithm.

    :param params: further arguments of the constructor
    :param actions: ``"box"`` or ``"discrete"``: which it is tried with
    :raises AssertionError: saying what is wrong, or what was raised by what line of its code
    """
    case = AgentCase(cls=cls, params=params or {}, actions=actions)
    for check in AGENT_CHECKS:
        run(check, case)


def _acts(agent: Any) -> NDArray[Any]:
    actions: NDArray[Any] = agent.predict(OBSERVATIONS, deterministic=True)[0]
    return actions


def same_state(one: AgentState, other: AgentState, besides: Collection[str] = ()) -> bool:
    """Whether two states are equal, `besides` these variables."""
    some, others = one.as_arrays(), other.as_arrays()
    return some.keys() == others.keys() and all(
        np.array_equal(array, others[name])
        for name, array in some.items()
        if name.partition("/")[2] not in besides
    )

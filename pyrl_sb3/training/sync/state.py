"""What copies of an agent exchange: everything that training changes in it."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.save_util import recursive_getattr

from pyrl_sb3.agent import Agent
from pyrl_sb3.training.errors import first_line
from pyrl_sb3.training.tensors import tensors_of

_BEFORE = {"step": 0.0, "mu_product": 1.0}  # of optimisers that have made no step; NAdam's product

Arrays = Mapping[str, NDArray[Any]]
Kind = Literal["weights", "running", "moments", "counts"]


def part_of(prefix: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Return those of some arrays whose names begin so, by the rest of these."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def layout(arrays: Arrays) -> str:
    """Return names, shapes and types, which must be the same in all copies that exchange arrays."""
    return repr([(name, np.shape(a), np.asarray(a).dtype.str) for name, a in arrays.items()])


class LayoutError(ValueError):
    """Copies exchange arrays of different names, shapes or types."""

    def __init__(self) -> None:
        super().__init__("the copies exchange different arrays: they were not set up alike")


@dataclass(frozen=True, kw_only=True)
class AgentState:
    """
    The state of an agent by the rule that each part is aggregated by; arrays by name.

    Attributes:
        weights: parameters of all networks, targets included, and the logarithm of SAC's
            temperature.
        running: statistics of normalising layers, such as CrossQ's.
        moments: of optimisers, such as Adam's m and v of each parameter.
        counts: steps of optimisers and of normalising layers; only their greatest means anything.
    """

    weights: Arrays
    running: Arrays
    moments: Arrays
    counts: Arrays

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all as one mapping, names prefixed by the part."""
        return {
            f"{part.name}/{name}": array
            for part in fields(self)
            for name, array in getattr(self, part.name).items()
        }

    @classmethod
    def of_arrays(cls, arrays: Arrays) -> "AgentState":
        """Return what `as_arrays` was made of; other names are left out."""
        return cls(**{part.name: part_of(f"{part.name}/", arrays) for part in fields(cls)})


def read_state(agent: Agent) -> AgentState:
    """Return a copy of an agent's state."""
    parts: dict[str, dict[str, NDArray[Any]]] = {part.name: {} for part in fields(AgentState)}
    for kind, name, tensor in _tensors(agent):
        parts[kind][name] = tensor.detach().cpu().numpy().copy()
    return AgentState(**parts)


def write_state(agent: Agent, state: AgentState) -> None:
    """
    Put a state into an agent of the same build.

    Each tensor is changed where it is: the gradient steps of `pyrl_sb3.algorithms` have views of
    the parameters and of Adam's moments.

    Raises:
        KeyError, RuntimeError: the state is of another build; nothing has been changed.
    """
    values = [
        # From numpy's scalars too, which arithmetic makes of arrays without dimensions.
        (tensor, th.as_tensor(np.asarray(getattr(state, kind)[name])).expand_as(tensor))
        for kind, name, tensor in _tensors(agent)
    ]
    with th.no_grad():
        for tensor, value in values:
            tensor.copy_(value)


def mistake_in(state: object, expected: Arrays) -> str | None:
    """
    Say, in words to go after its name, how a state of a stranger's code differs from what another's
    `as_arrays` returns; None where it does not. More than is expected is no mistake.
    """
    if not isinstance(state, AgentState):
        return f"that is a {type(state).__name__}"
    for part in fields(AgentState):
        if not isinstance(arrays := getattr(state, part.name), Mapping):
            return f"with {part.name} that are a {type(arrays).__name__}"
    found = state.as_arrays()
    for name, there in expected.items():
        if name not in found:
            return f"that lacks {name}"
        try:
            array = np.asarray(found[name])
        except Exception as error:  # whatever conversions of a stranger's come to
            return f"with {name} that is no array: {first_line(error)}"
        if array.shape != there.shape:
            return f"with {name} of shape {array.shape}, not {there.shape}"
        if array.dtype.kind not in "biuf":
            return f"with {name} of {array.dtype}, no numbers"
    return None


def _tensors(agent: Agent) -> Iterator[tuple[Kind, str, th.Tensor]]:
    """All that SB3 saves of an agent, by the tensors themselves."""
    parts, variables = agent._get_torch_save_params()
    for name in parts:
        part = recursive_getattr(agent, name)
        if isinstance(part, th.optim.Optimizer):
            yield from _of_optimizer(name, part)
        else:
            yield from _of_module(name, part)
    for name in variables:
        tensor = recursive_getattr(agent, name)
        if tensor is not None:
            yield "weights", name, tensor


def _of_module(prefix: str, module: th.nn.Module) -> Iterator[tuple[Kind, str, th.Tensor]]:
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for name, tensor in tensors_of(module):
        floating: Kind = "weights" if name in parameters else "running"
        yield floating if tensor.is_floating_point() else "counts", f"{prefix}.{name}", tensor


def _of_optimizer(
    prefix: str, optimizer: th.optim.Optimizer
) -> Iterator[tuple[Kind, str, th.Tensor]]:
    _begin(optimizer)
    for index, parameter in enumerate(_parameters(optimizer)):
        for name, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, th.Tensor):
                yield "counts" if name == "step" else "moments", f"{prefix}.{index}.{name}", value


def _begin(optimizer: th.optim.Optimizer) -> None:
    """
    Give an optimiser the state that its first step would: all copies then exchange the same
    arrays, whether they have trained yet or not.

    What that is, is found by a step of a copy along gradients of zero, which leaves moments at
    zero; counters of steps then go back to before it. SGD with momentum does not damp the first
    gradient of all, which it takes for the second here: without `dampening` that is the same.
    """
    parameters = _parameters(optimizer)
    if all(optimizer.state.get(each) for each in parameters):
        return
    twin = deepcopy(optimizer)
    for group in twin.param_groups:
        if "weight_decay" in group:
            group["weight_decay"] = 0.0
        for parameter in group["params"]:
            parameter.grad = th.zeros_like(parameter)
    twin.step()
    for parameter, other in zip(parameters, _parameters(twin), strict=True):
        if not optimizer.state.get(parameter):
            optimizer.state[parameter] = {
                name: th.full_like(value, _BEFORE[name]) if name in _BEFORE else value
                for name, value in twin.state.get(other, {}).items()
            }


def _parameters(optimizer: th.optim.Optimizer) -> list[th.Tensor]:
    return [each for group in optimizer.param_groups for each in group["params"]]

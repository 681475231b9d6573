"""What every synchronisation callback must fulfil; `check_sync_callback` runs all checks."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback

from pyrl_sb3.algorithms import TD3
from pyrl_sb3.buffers import ReplayBuffer
from pyrl_sb3.plugins import (
    PluginManager,
    SeedGroup,
    SyncCallbackSpec,
    SyncContext,
    get_plugin_manager,
)
from pyrl_sb3.plugins.errors import RAISED
from pyrl_sb3.testing.drift import Drift
from pyrl_sb3.testing.lockstep import Lockstep, LockstepGroup
from pyrl_sb3.testing.lost import left_out, loses
from pyrl_sb3.testing.require import CheckError, raised, require, run
from pyrl_sb3.training.checkpoint import OF_CALLS, capture_callback
from pyrl_sb3.training.checkpoints import Checkpoints
from pyrl_sb3.training.sync.state import LayoutError

STEPS = 64
INTERVAL = 16
COPIES = 3
# After five synchronisations, and seven: what goes by turns of 2, 3 or 4 is not where it began.
KEPT_AT, GOES_ON_TO = 84, 124
# Weights of which so little is left have been divided by too many; others keep 97% and more.
SHRUNK = 0.7

_DIFFERENT = "copies exchange different arrays, or not equally often"

Result = TypeVar("Result")
Weights = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class SyncCase:
    """A synchronisation callback to check: its reference and parameters."""

    ref: str
    params: Mapping[str, Any] = field(default_factory=dict)
    manager: PluginManager = field(default_factory=get_plugin_manager)

    @cached_property
    def couples_seeds(self) -> bool:
        """What its spec declares."""
        spec = self.manager.find("sync-callback", self.ref).spec
        assert isinstance(spec, SyncCallbackSpec)
        return spec.couples_seeds

    def make(self, group: SeedGroup, steps: int = STEPS) -> BaseCallback:
        """The callback of one copy, which is to make so many steps."""
        params = self.manager.check_params("sync-callback", self.ref, self.params)
        context = SyncContext(
            group=group, interval=INTERVAL, rng=np.random.default_rng(0), total_timesteps=steps
        )
        callback: BaseCallback = self.manager.load("sync-callback", self.ref)(context, **params)
        return callback

    def train(self, group: LockstepGroup, steps: int = STEPS, changed: int = -1) -> Weights:
        """Train one copy, of another seed if it is that to be `changed`; its weights."""
        seed = group.rank + (COPIES if group.rank == changed else 0)
        return _train(seed, steps, self.make(group))

    def train_all(self, size: int = COPIES, changed: int = -1) -> list[Weights]:
        """Train all copies together, one of them perhaps from another seed; their weights."""
        return run_together([partial(self.train, changed=changed)] * size)

    def is_coupled(self) -> bool:
        """Whether another seed for any one copy changes what the others end with."""
        before = self.train_all()
        for changed in range(COPIES):
            after = self.train_all(changed=changed)
            others = [rank for rank in range(COPIES) if rank != changed]
            if not _equal([before[rank] for rank in others], [after[rank] for rank in others]):
                return True
        return False


def run_together(copies: Sequence[Callable[[LockstepGroup], Result]]) -> list[Result]:
    """
    Results of copies that take turns.

    :raises AssertionError: They exchange arrays of different names, shapes or types.
    """
    try:
        return Lockstep(len(copies)).run(copies)
    except LayoutError as error:
        raise CheckError(_DIFFERENT) from error


def gives_a_callback(case: SyncCase) -> None:
    """The factory makes an SB3 callback."""
    callback = case.make(LockstepGroup(Lockstep(1), 0))
    require(isinstance(callback, BaseCallback), f"{callback!r} is no BaseCallback of SB3's")


def one_copy_is_left_alone(case: SyncCase) -> None:
    """A group of one trains as without the callback, bit for bit, and to the end."""

    def train(group: LockstepGroup) -> int:
        return _trained(group.rank, STEPS, case.make(group)).num_timesteps

    [steps] = run_together([train])
    problem = f"stops a single copy after {steps} of {STEPS} steps: does its _on_step return True?"
    require(steps == STEPS, f"{problem} A single copy is to train to the end")
    require(_equal(case.train_all(1), _alone()), "changes the training of a single copy")


def coupling_is_declared(case: SyncCase) -> None:
    """With ``couples_seeds=True`` what one copy sees changes another; with False it never does."""
    coupled = case.is_coupled()
    if case.couples_seeds:
        require(coupled, "declares couples_seeds=True, but no copy influences another")
    else:
        require(not coupled, "declares couples_seeds=False, but copies influence each other")


def runs_agree(case: SyncCase) -> None:
    """Two executions with the same seeds end with the same weights."""
    require(_equal(case.train_all(), case.train_all()), "two executions end differently")


def copies_call_in_step(case: SyncCase) -> None:
    """All copies exchange equally often, each time the same arrays."""

    def train(group: LockstepGroup) -> list[dict[str, tuple[int, ...]]]:
        case.train(group)
        return group.calls

    first, *others = run_together([train] * COPIES)
    for calls in others:
        require(calls == first, _DIFFERENT)


def survives_the_end_of_a_copy(case: SyncCase) -> None:
    """When copy 0 ends early, the others finish, with finite weights of the usual size."""

    def train(group: LockstepGroup) -> Weights:
        return case.train(group, STEPS // 2 if group.rank == 0 else STEPS)

    try:
        finished = run_together([train] * COPIES)
    except CheckError:
        raise
    except RAISED as error:
        problem = f"the end of a copy breaks the others: {raised(error)}"
        raise CheckError(problem) from error
    for weights in finished:
        finite = all(np.isfinite(array).all() for array in weights.values())
        require(finite, "weights are not finite after a copy ended")
    for usual, weights in zip(case.train_all()[1:], finished[1:], strict=True):
        sizes = _sizes(weights)
        for part, size in _sizes(usual).items():
            problem = f"weights of {part} shrink to {sizes[part]:.2g} of {size:.2g}"
            why = "after the end of a copy: divided by group.size, not by how many are left?"
            require(sizes[part] >= SHRUNK * size, f"{problem} {why}")


def checkpoints_keep_it(case: SyncCase) -> None:
    """Copies that go on from a checkpoint, with callbacks built anew, end as if they never died."""
    if not getattr(case.make(LockstepGroup(Lockstep(1), 0)), "keeps_state", True):
        return

    def train(group: LockstepGroup) -> tuple[Weights, list[str]]:
        checkpoints = Checkpoints(folder / str(group.rank), save_freq=KEPT_AT, by_steps=True)
        callback, model = case.make(group, GOES_ON_TO), _untrained(group.rank)
        goes_on = checkpoints.resume(model)
        left = GOES_ON_TO - model.num_timesteps
        model.learn(left, [checkpoints, callback], reset_num_timesteps=not goes_on)
        lost = left_out(capture_callback(callback), callback, case.make(group, GOES_ON_TO))
        return _weights(model), [name for name in lost if name not in OF_CALLS]

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ends, again = (run_together([train] * COPIES) for _ in range(2))
    problem = loses(ends[0][1], "no text, tensors, modules or other objects")
    require(_equal([weights for weights, _ in ends], [weights for weights, _ in again]), problem)


SYNC_CHECKS: tuple[Callable[[SyncCase], None], ...] = (
    gives_a_callback,
    one_copy_is_left_alone,
    # These name the cause of what the one after them would see too.
    copies_call_in_step,
    runs_agree,
    coupling_is_declared,
    survives_the_end_of_a_copy,
    checkpoints_keep_it,
)


def check_sync_callback(
    ref: str, params: Mapping[str, Any] | None = None, *, manager: PluginManager | None = None
) -> None:
    """
    Run all checks on the synchronisation callback `ref`: ``plugin/name`` or ``pkg.mod:factory``.

    :param params: what the factory gets besides its context
    :param manager: the registry that has it; by default that of this process
    :raises AssertionError: saying what is wrong, or what was raised by what line of its code
    """
    case = SyncCase(ref=ref, params=params or {}, manager=manager or get_plugin_manager())
    for check in SYNC_CHECKS:
        run(check, case)


def _train(seed: int, steps: int = STEPS, callback: BaseCallback | None = None) -> Weights:
    """The weights of a copy after `steps`."""
    return _weights(_trained(seed, steps, callback))


def _weights(model: TD3) -> Weights:
    return {name: value.numpy().copy() for name, value in model.policy.state_dict().items()}


def _trained(seed: int, steps: int = STEPS, callback: BaseCallback | None = None) -> TD3:
    """A copy after `steps`."""
    return _untrained(seed).learn(steps, callback)


def _untrained(seed: int) -> TD3:
    """A copy; all of them start from one initialisation."""
    start = _start()
    model = _model(seed)  # seeds the global generators
    model.policy.load_state_dict(start)
    return model


@cache
def _alone() -> list[Weights]:
    """The weights of a single copy, trained without a callback."""
    return Lockstep(1).run([lambda group: _train(group.rank)])


@cache
def _start() -> dict[str, th.Tensor]:
    return _model(0).policy.state_dict()


def _model(seed: int) -> TD3:
    return TD3(
        "MlpPolicy",
        Drift(),
        seed=seed,
        replay_buffer_class=ReplayBuffer,
        buffer_size=STEPS,
        learning_starts=8,
        learning_rate=1e-2,
        batch_size=8,
        train_freq=4,
        policy_kwargs={"net_arch": [8]},
        device="cpu",
    )


def _sizes(weights: Weights) -> dict[str, float]:
    """The norm of the weights of each network."""
    squares: dict[str, float] = {}
    for name, array in weights.items():
        part = name.partition(".")[0]
        squares[part] = squares.get(part, 0.0) + float(np.square(array).sum())
    return {part: square**0.5 for part, square in squares.items()}


def _equal(some: list[Weights], others: list[Weights]) -> bool:
    return all(
        np.array_equal(array, other[name])
        for one, other in zip(some, others, strict=True)
        for name, array in one.items()
    )

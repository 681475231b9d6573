"""What every replay buffer must fulfil. Each check is a function; `check_replay_buffer` runs all.

Stricter than SB3's own buffers in one point: a buffer draws from a generator of its own.
"""

import pickle
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import BaseBuffer, DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize

from pyrl_sb3.buffers import ReplayBuffer as Extended
from pyrl_sb3.testing.batches import (
    BATCH,
    BATCHES,
    check_all_are_drawn,
    check_batch,
    check_batches,
    check_goals_go_to_any,
    numbers,
    same,
    tensors,
)
from pyrl_sb3.testing.buffer_case import (
    SLOTS,
    BufferCase,
    buffer_cases,
    through_checkpoint,
    through_pickle,
)
from pyrl_sb3.testing.numbered import (
    ALL_ENDED,
    ALL_ENDED_AND_FULL,
    NumberedEnv,
    alike,
    calls,
    numbered,
    play,
)
from pyrl_sb3.testing.priorities import needs_are_what_it_has
from pyrl_sb3.testing.require import require, run


def samples_are_like_sb3s(case: BufferCase) -> None:
    """A sample has the fields, shapes and dtypes that SB3's buffer gives."""
    buffer, _ = case.filled()
    one = NumberedEnv(case.kind)
    stock: Any = ReplayBuffer if case.kind == "array" else DictReplayBuffer
    reference = stock(SLOTS, one.observation_space, one.action_space, device="cpu")
    play(reference, numbered(case.kind, 1), 3)
    mine, theirs = tensors(buffer.sample(BATCH)), tensors(reference.sample(BATCH))
    for name, tensor in theirs.items():
        require(name in mine, f"a sample has no {name}")
        shape, expected = tuple(mine[name].shape), tuple(tensor.shape)
        require(shape == expected, f"sampled {name} have shape {shape}, not {expected}")
        got = mine[name].dtype
        require(got == tensor.dtype, f"sampled {name} are {got}, not {tensor.dtype}")
    for name, tensor in mine.items():
        require(bool(tensor.isfinite().all()), f"sampled {name} are not finite")
    if "discounts" in mine:
        gamma = getattr(buffer, "gamma", case.params.get("gamma"))
        _check_discounts(mine["discounts"], mine["dones"], gamma)


def what_is_stored_is_sampled(case: BufferCase) -> None:
    """All that is stored, and nothing else, is sampled as it was stored."""
    buffer, stored = case.filled()
    check_batches(buffer, stored)
    check_all_are_drawn(*case.filled(ALL_ENDED))


def only_terminations_are_dones(case: BufferCase) -> None:
    """A step that ran out of time is no end, one that ended for good is."""
    buffer, stored = case.filled()
    batch = tensors(buffer.sample(BATCH * BATCHES))
    dones = batch["dones"][:, 0].tolist()
    for index, done in zip(numbers(batch), dones, strict=True):
        step = stored.get(index)
        require(step is None or not step.late or not done, "a step that ran out of time is done")
        require(step is None or not step.done or bool(done), "a step that ended is not done")


def the_oldest_are_overwritten(case: BufferCase) -> None:
    """A buffer that has gone round keeps the newest, and says how many."""
    buffer = case.make()
    stored = play(buffer, case.env(), 2 * SLOTS + 7)
    newest = {i: t for i, t in stored.items() if t.step >= SLOTS + 7}
    says = buffer.size(), buffer.pos, buffer.full
    require(says == (SLOTS, 7, True), f"size(), pos, full are {says}, not {(SLOTS, 7, True)}")
    check_batches(buffer, newest)
    buffer, stored = case.filled(ALL_ENDED_AND_FULL)
    oldest = ALL_ENDED_AND_FULL - SLOTS
    check_all_are_drawn(buffer, {i: t for i, t in stored.items() if t.step >= oldest})


def arguments_are_left_alone(case: BufferCase) -> None:
    """`add` changes nothing that it is given, and keeps nothing that may change later."""
    buffer, stored = case.make(), {}
    for index, args, transition in calls(_Watched(buffer), case.env(), 20):
        stored[index] = transition
        if transition.episode[0] == case.n_envs - 1:
            _spoil(args)
    check_batches(buffer, stored)


class _Watched:
    """A buffer, whose arguments are looked at before and after."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer

    def add(self, *args: Any) -> None:
        before = deepcopy(args)
        self.buffer.add(*args)
        names = ("observation", "next observation", "action", "reward", "done", "info")
        for name, was, now in zip(names, before, args, strict=True):
            a = "an" if name[0] in "aoi" else "a"
            require(alike(was, now), f"add changes {a} {name}")


def samples_are_copies(case: BufferCase) -> None:
    """What is done to a sample does nothing to what is stored."""
    buffer, stored = case.filled()
    for _ in range(BATCHES):
        batch = buffer.sample(BATCH)
        check_batch(batch, stored)
        for tensor in tensors(batch).values():
            tensor.zero_()


def new_goals_go_to_any(case: BufferCase) -> None:
    """Whether a transition gets a new goal is not decided by when, or where, it was made."""
    buffer, stored = case.filled()
    if case.kind == "dict":
        batches = [buffer.sample(BATCH) for _ in range(BATCHES)]
        check_goals_go_to_any(batches, stored, case.n_envs)


def seeds_decide(case: BufferCase) -> None:
    """Equal seeds give equal batches, other seeds others."""
    first, again, other = (case.filled(seed=seed)[0].sample(BATCH) for seed in (0, 0, 1))
    require(same(first, again), "two buffers with one seed draw differently")
    require(not same(first, other), "the seed has no influence")


def global_state_is_untouched(case: BufferCase) -> None:
    """Sampling moves neither numpy's nor torch's global generator, which others use."""
    buffer, _ = case.filled()
    before = pickle.dumps(np.random.get_state()), th.get_rng_state()
    buffer.sample(BATCH)
    unmoved = pickle.dumps(np.random.get_state()) == before[0]
    require(unmoved, "sampling moves numpy's global generator")
    require(bool((th.get_rng_state() == before[1]).all()), "sampling moves torch's generator")


def samples_are_normalised(case: BufferCase) -> None:
    """With a VecNormalize, a sample is what it makes of the one without."""
    plain, normal = case.filled()[0], case.filled()[0]
    env = VecNormalize(case.env(), gamma=0.5)
    env.reset()
    for _ in range(9):
        env.step(np.zeros((case.n_envs, 2), np.float32))
    raw, batch = plain.sample(BATCH), normal.sample(BATCH, env=env)
    before, after = tensors(raw), tensors(batch)
    for name, tensor in before.items():
        if "observations" in name:
            whole, _, key = name.partition("/")
            obs = {k: before[f"{whole}/{k}"].numpy() for k in getattr(raw, whole)} if key else None
            expected: Any = env.normalize_obs(obs or tensor.numpy())
            close = np.allclose(after[name], expected[key] if key else expected, atol=1e-5)
            require(close, f"{name} are not normalised")
    rewards = env.normalize_reward(raw.rewards.numpy())
    require(np.allclose(batch.rewards, rewards), "rewards are not normalised")


def samples_are_on_the_device(case: BufferCase) -> None:
    """Samples are on the device that was asked for; torch's "meta" can be had everywhere."""
    buffer = case.make(device="meta")
    play(buffer, case.env(), 9)
    for name, tensor in tensors(buffer.sample(BATCH)).items():
        require(tensor.device.type == "meta", f"{name} are on {tensor.device}")


def reset_forgets(case: BufferCase) -> None:
    """After `reset` only what was stored since is there."""
    buffer, old = case.filled()
    buffer.reset()
    says = buffer.size(), buffer.pos, buffer.full
    require(says == (0, 0, False), f"size(), pos, full are {says} after a reset")
    stored = play(buffer, case.env(), 15, skip=len(old))
    check_batches(buffer, stored)


def saved_buffers_go_on(case: BufferCase) -> None:
    """A buffer saved by SB3's means, or in a checkpoint, holds the same, draws the same batches."""
    kept = "of attributes numbers, arrays, generators and containers of these"
    if issubclass(case.cls, Extended):
        kept = "transitions and what get_extra_state() returns"
    checkpoint = f"from a checkpoint, which keeps {kept}"
    for way, store in (("by pickle", through_pickle), (checkpoint, through_checkpoint)):
        buffer, stored = case.filled()
        batch = buffer.sample(BATCH)
        if hasattr(buffer, "update_priorities"):
            buffer.update_priorities(batch.indices, np.linspace(0, 9, BATCH))
        twin = store(case, buffer)
        require(twin.size() == buffer.size(), f"{buffer.size()} steps saved, {twin.size()} loaded")
        for _ in range(5):
            batch = twin.sample(BATCH)
            check_batch(batch, stored)
            as_saved = same(batch, buffer.sample(BATCH))
            require(as_saved, f"a loaded buffer draws other batches: {way}")
        more = play(twin, case.env(), 4, skip=len(stored))
        check_batches(twin, {**stored, **more})


def stock_models_train(case: BufferCase) -> None:
    """SB3's SAC trains with it."""
    policy = "MlpPolicy" if case.kind == "array" else "MultiInputPolicy"
    model = SAC(
        policy,
        case.env(),
        replay_buffer_class=case.cls,
        replay_buffer_kwargs=dict(case.params),
        policy_kwargs={"net_arch": [4]},
        buffer_size=SLOTS * case.n_envs,
        learning_starts=12 * case.n_envs,
        batch_size=8,
        device="cpu",
    )
    model.learn(20 * case.n_envs)
    require(model._n_updates > 0, "SAC did not train")


BUFFER_CHECKS: tuple[Callable[[BufferCase], None], ...] = (
    samples_are_like_sb3s,
    needs_are_what_it_has,
    what_is_stored_is_sampled,
    only_terminations_are_dones,
    the_oldest_are_overwritten,
    arguments_are_left_alone,
    samples_are_copies,
    new_goals_go_to_any,
    global_state_is_untouched,
    seeds_decide,
    samples_are_normalised,
    samples_are_on_the_device,
    reset_forgets,
    saved_buffers_go_on,
    stock_models_train,
)


def check_replay_buffer(
    cls: type[ReplayBuffer],
    params: Mapping[str, Any] | None = None,
    *,
    observation_kinds: Collection[str] | None = None,
    needs: Collection[str] = (),
) -> None:
    """
    Run all checks on `cls`, a replay buffer.

    :param params: further arguments of the constructor; `n_steps`, as an argument or where the
        class sets it itself, is 1: returns of one step are what is checked
    :param observation_kinds: ``"array"``, ``"dict"`` or both; by default what SB3's class that this
        one is a subclass of takes
    :param needs: as its `ReplayBufferSpec` says
    :raises AssertionError: saying what is wrong, or what was raised by what line of its code, and
        with what observations and how many environments
    """
    require(isinstance(cls, type), f"{cls!r} is no class: give that of the buffer")
    require(issubclass(cls, BaseBuffer), f"{cls.__name__} is no buffer of SB3's")
    for case in buffer_cases(cls, params, observation_kinds=observation_kinds, needs=needs):
        for check in BUFFER_CHECKS:
            run(check, case, str(case))


def _check_discounts(given: th.Tensor, dones: th.Tensor, gamma: float | None) -> None:
    at_ends = (given == 0) & (dones == 1)  # after which nothing counts, whatever the discount
    found = np.unique(given[~at_ends].numpy())
    told = ", ".join(f"{each:g}" for each in found)
    if gamma is None:  # it may have another name: all that is known is that it is hardly 1
        problem = "discounts of one step are 1, and algorithms take them for their gamma"
        require(not np.allclose(found, 1), problem)
    else:
        require(np.allclose(found, gamma), f"discounts of one step are {told}, not {gamma}")


def _spoil(args: Any) -> None:
    for arg in args[:5]:
        for array in arg.values() if isinstance(arg, dict) else [arg]:
            array[...] = 1

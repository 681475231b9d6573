"""State as plain data, into objects of the same build and no others."""

import itertools
import json
import logging
import random
import threading
import tracemalloc
from collections import defaultdict, deque
from enum import Enum
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.noise import NormalActionNoise, VectorizedActionNoise

from pyrl_sb3.noise.action import OrnsteinUhlenbeckNoise
from pyrl_sb3.noise.scheduled import ScheduledNoise
from pyrl_sb3.noise.several import PerEnvNoise
from pyrl_sb3.plugins import NoiseContext
from pyrl_sb3.training.state import (
    StateError,
    capture,
    capture_attributes,
    restore,
    restore_attributes,
)
from pyrl_sb3.training.state_files import read_tree, write_tree


def through_files(tree, folder):
    write_tree(tree, folder, "state")
    return read_tree(folder, "state")


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        -np.inf,
        0.1 + 0.2,
        "text",
        (1, [2.0, (3,)], {"$array": "no array", 5: (6,)}),
        deque([{"r": 1.5}], maxlen=3),
        {1, (2, "b")},
        frozenset({2.5}),
        {"n": 7, "ids": {1, 2}},
        [1, set()],
    ],
    ids=lambda value: type(value).__name__,  # the order of a set is each process's own
)
def test_values_come_back_as_they_were(tmp_path, value):
    again = restore(through_files(capture(value), tmp_path), None)
    assert (again, type(again)) == (value, type(value))
    if isinstance(value, deque):
        assert again.maxlen == value.maxlen


def test_numbers_of_numpy_keep_their_type(tmp_path):
    values = [np.float32(0.1), np.int8(-3), np.bool_(True), np.arange(6, dtype="i2").reshape(2, 3)]
    values += [np.longdouble(1) / 3, np.complex64(1 - 2j), np.datetime64(7, "ns")]
    values += [np.datetime64("2024-02-29"), np.timedelta64(3, "s"), np.uint64(2**64 - 1)]
    values += [np.bytes_(50 * b"long")]
    again = restore(through_files(capture(values), tmp_path), None)
    for value, other in zip(values, again, strict=True):
        assert type(value) is type(other)
        assert value.dtype == other.dtype
        assert np.array_equal(value, other)


@pytest.mark.parametrize(
    ("dtype", "number"),
    [("U100000000", "a"), ("V100000000", 0), ("<f8", [1, 2]), ("f8,(100000,)f8", 1)],
)
def test_a_number_that_claims_more_memory_than_it_has_bytes_for_is_refused(tmp_path, dtype, number):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="is no type of a number"):
            through_files({"$scalar": [dtype, number]}, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("make", "draw"),
    [
        (np.random.default_rng, lambda rng: rng.random()),
        (np.random.RandomState, lambda rng: rng.rand()),
        (random.Random, lambda rng: rng.random()),
        (lambda seed: th.Generator().manual_seed(seed), lambda rng: th.rand(1, generator=rng)),
    ],
)
def test_generators_go_on_where_they_were(tmp_path, make, draw):
    first, second = make(1), make(2)
    draw(first)
    tree = through_files(capture(first), tmp_path)
    assert restore(tree, second) is second
    assert draw(first) == draw(second)


def test_noise_goes_on_in_every_environment(tmp_path):
    def make(seed):
        rngs = np.random.default_rng(seed).spawn(2)
        return PerEnvNoise([OrnsteinUhlenbeckNoise((3,), 0.3, 0.15, rng) for rng in rngs])

    first, second = make(1), make(2)
    first()
    tree = through_files(capture(first, (object,)), tmp_path)
    restore(tree, second)
    assert all(np.array_equal(first(), second()) for _ in range(5))


def test_what_is_shared_or_mapped_is_changed_in_place():
    values = defaultdict(float, a=1.0)
    tree = capture(values)
    values["b"] = 2.0
    assert restore(tree, values) is values
    assert dict(values) == {"a": 1.0}
    assert values["c"] == 0.0


class Owner:
    def __init__(self, **attributes):
        vars(self).update(attributes)


class Best(NamedTuple):
    step: int
    value: np.float64

    def text(self):
        return f"{self.value} after {self.step}"


def test_named_tuples_are_what_the_new_object_has():
    best = Best(3, np.float64(0.5))
    owner = Owner(best=Best(0, np.float64(0)), every=[Best(0, np.float64(0))], none=None)
    restore_attributes(capture_attributes(Owner(best=best, every=[best], none=best)), owner)
    assert owner.best.text() == owner.every[0].text() == "0.5 after 3"
    assert (owner.none.step, owner.none.value, owner.none) == (3, 0.5, best)
    older = {"$tuple": [3, 0.5]}
    assert restore(older, Best(0, 0)).text() == "0.5 after 3"
    assert restore(older, None) == (3, 0.5)


def test_a_named_tuple_with_other_names_is_not_taken_for_what_is_there():
    found = restore({"$tuple": [1, 2], "fields": ["low", "high"]}, Best(0, 0))
    assert (found, found._fields) == ((1, 2), ("low", "high"))
    assert type(restore(capture(Best(1, 2)), Best(0, 0))) is Best
    assert restore({"$tuple": [1, 2, 3]}, Best(0, 0)) == (1, 2, 3)


def test_a_container_is_kept_whole_or_stays_as_it_was_built():
    for holds in ([1, print], {"n": 1, "f": print}, {1, print}, (1, {print: 2}), {(1, print)}):
        assert capture_attributes(Owner(holds=holds)) == {}
    # There is nothing to put the state of such keys and members into.
    for holds in ({Owner(): 1}, {Owner()}, {random.Random(): 1}):
        assert capture_attributes(Owner(holds=holds), (Owner,)) == {}


def test_only_state_is_taken():
    owner = Owner(n=1, path="a path", code=print, nested=Owner(n=2), items=[Owner()], skipped=3)
    assert capture_attributes(owner, skip=("skipped",)) == {"n": 1}
    assert capture_attributes(owner, (Owner,), ("skipped",)) == {
        "n": 1,
        "nested": {"$object": {"n": 2}},
        "items": [{"$object": {}}],
    }
    owner.itself = owner
    assert json.dumps(capture_attributes(owner, (Owner,)))  # and no end of it


class Mode(Enum):
    ON = 1
    OFF = 2


# By what they are, an object of each kind that no state can be put into
WITHOUT_A_WAY_IN = {
    "cycle": lambda: itertools.cycle([1, 2]),
    "count": itertools.count,
    "iterator": lambda: iter([1]),
    "generator": lambda: (each for each in "ab"),
    "fraction": lambda: Fraction(1, 2),
    "complex": lambda: 1j,
    "dtype of numpy": lambda: np.dtype("f4"),
    "dtype of torch": lambda: th.float32,
    "lock": threading.Lock,
    "member": lambda: Mode.ON,
    "logger": lambda: logging.getLogger("acme"),
    "function in C": lambda: len,
    "objects": lambda: np.array([None]),
    "structure of numpy": lambda: np.zeros(1, "i4,f4")[0],
}


@pytest.mark.parametrize("make", WITHOUT_A_WAY_IN.values(), ids=WITHOUT_A_WAY_IN)
@pytest.mark.parametrize(
    "holding", [lambda value: value, lambda value: [1, {"a": value}]], ids=["alone", "in a list"]
)
def test_what_no_state_can_be_put_into_stays_as_it_was_built(tmp_path, make, holding):
    old, new = (Owner(n=n, holds=holding(make())) for n in (1, 2))
    held = new.holds
    tree = through_files(capture(old, (object,)), tmp_path)
    assert tree == {"$object": {"n": 1}}
    restore(tree, new)
    assert new.n == 1
    assert new.holds is held


@pytest.mark.parametrize("built", [itertools.count(3), Fraction(1, 3), 0, Mode.ON])
@pytest.mark.parametrize("attributes", [{}, None])
def test_older_checkpoints_leave_such_as_they_were_built(built, attributes):
    older = {"$same": None} if attributes is None else {"$object": attributes}
    owner = Owner(holds=built, several=[built])
    restore_attributes({"holds": older, "several": [older]}, owner)
    assert owner.holds is owner.several[0] is built


def test_older_checkpoints_change_no_member_of_an_enum():
    owner = Owner(mode=Mode.ON)
    restore_attributes({"mode": {"$object": {"_value_": 2, "_sort_order_": 1}}}, owner)
    assert (owner.mode, Mode.ON.value) == (Mode.ON, 1)


def test_noise_that_keeps_a_space_goes_on(tmp_path):
    old, new = (Owner(space=spaces.Box(-1, 1, (3,), seed=seed)) for seed in (1, 2))
    old.space.sample()
    restore(through_files(capture(old, (object,)), tmp_path), new)
    assert np.array_equal(old.space.sample(), new.space.sample())


def test_what_a_container_that_is_left_out_shares_is_kept():
    inner = Owner(n=1)
    owner = Owner(both=[inner, print], inner=inner, again=inner)
    inner_once = {"inner": {"$object": {"n": 1}}, "again": {"$same": None}}
    assert capture_attributes(owner, (object,)) == inner_once


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([Owner(n=1)], []),
        (deque([Owner(n=1)]), deque()),
        ({"a": Owner(n=1)}, {}),
        (Owner(n=1), None),
        (np.random.default_rng(1), None),
    ],
    ids=["list", "deque", "dict", "object", "generator"],
)
def test_what_has_no_place_yet_stays_as_it_was_built_and_is_named(old, new):
    owner = Owner(holds=new)
    with pytest.warns(UserWarning, match=r"Owner\.holds stays as it was built: nothing there"):
        restore_attributes(capture_attributes(Owner(holds=old, n=3), (object,)), owner)
    assert vars(owner) == {"holds": new, "n": 3}
    assert owner.holds is new


def test_objects_in_a_deque_are_put_back():
    old, new = (Owner(past=deque([Owner(n=n)])) for n in (1, 2))
    restore(capture(old, (object,)), new)
    assert new.past[0].n == 1


def test_another_build_is_refused():
    tree = capture(np.random.default_rng(0))
    with pytest.raises(StateError, match="no generator to put a state into, but NoneType"):
        restore(tree, None)
    mt = np.random.Generator(np.random.MT19937(0))
    with pytest.raises(StateError, match="not a state for Generator"):
        restore(tree, mt)
    noise = VectorizedActionNoise(NormalActionNoise(np.zeros(1), np.ones(1)), 2)
    with pytest.raises(StateError, match="NoneType is not what was captured"):
        restore(capture(noise, (object,)), None)
    with pytest.raises(StateError, match="unknown kind of state: what"):
        restore_attributes({"a": {"what": 1}}, Owner())
    with pytest.raises(StateError, match="type has no state"):
        capture(int)
    for holds in (Owner(n=1), np.random.default_rng(0)):
        with pytest.raises(StateError, match=r"^Owner\.holds: .*int"):
            restore(capture(Owner(holds=holds), (object,)), Owner(holds=0))


def test_noise_that_keeps_its_context_hears_how_long_the_run_is_to_be():
    def held(seed, steps):
        rng = np.random.default_rng(seed)
        box = spaces.Box(-1, 1, (1,))
        return Owner(context=NoiseContext(action_space=box, rng=rng, total_timesteps=steps))

    old, new = held(1, 100), held(2, 200)
    restore(capture(old, (object,)), new)
    assert new.context.total_timesteps == 200
    assert new.context.rng.random() == old.context.rng.random()


def test_scheduled_noise_keeps_the_steps_it_was_built_with():
    def scheduled(steps):
        rngs = np.random.default_rng(1).spawn(2)
        noises = [OrnsteinUhlenbeckNoise((1,), 0.2, 0.15, rng) for rng in rngs]
        return PerEnvNoise([ScheduledNoise(noise, steps, 0.0) for noise in noises])

    old, new = scheduled(100), scheduled(200)
    for _ in range(50):
        old()
    restore(capture(old, (object,)), new)
    assert [noise.factor for noise in old.noises] == [0.5, 0.5]
    assert [noise.factor for noise in new.noises] == [0.75, 0.75]

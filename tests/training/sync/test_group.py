"""Two real processes over gloo, as torchrun would start them."""

import os
import subprocess
import sys

import numpy as np
import pytest

# Forks of an interpreter that has imported all: what starts anew takes seconds.
SCRIPT = """
import os
import socket
import sys
import traceback
from functools import partial

import gymnasium as gym
import numpy as np
import torch._dynamo  # which the first optimizer would import
import pyrl_sb3
from pyrl_sb3.training.sync.callback import SeedSyncCallback
from pyrl_sb3.training.sync.group import DistributedGroup
from pyrl_sb3.training.sync.state import AgentState, read_state, write_state
from pyrl_sb3.training.sync.strategies import STRATEGIES

def copy(out):
    saved = {}
    with DistributedGroup.of_torchrun() as group:
        def make():
            return pyrl_sb3.SAC(
                "MlpPolicy", gym.make("Pendulum-v1"), seed=group.rank, learning_starts=20,
                policy_kwargs={"net_arch": [8]}, batch_size=8, device="cpu",
            )

        def keep(name, model):
            saved.update({f"{name}:{key}": a for key, a in read_state(model).as_arrays().items()})

        keep("own", make())
        model = make()
        sync = SeedSyncCallback("mean", interval=15, group=group)
        begun = AgentState.of_arrays(group.all_gather(read_state(model).as_arrays())[0])
        write_state(model, begun)
        keep("begun", model)
        model.learn(40)
        saved["seen"] = model.replay_buffer.observations[:5]
        trained = read_state(model)
        keep("trained", model)
        for name in STRATEGIES:
            params = {"patience": 1} if name == "best" else {}
            sync = SeedSyncCallback(
                name, group=group, score=lambda model: float(group.rank), **params
            )
            write_state(model, trained)
            sync.init_callback(model)
            sync._memory = {"weights": begun.weights}
            sync.synchronise()
            keep(name, model)
        model = make()
        model.learn(50 if group.rank else 20, SeedSyncCallback("mean", interval=15, group=group))
        keep("learned", model)  # copy 0 ended early
        saved["latest"] = np.array(group.latest)
    np.savez(f"{out}.{group.rank}.npz", **saved)

def execute(out):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    copies = []
    for rank in "01":
        copies.append(os.fork())
        if not copies[-1]:
            try:
                os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
                copy(out)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
    assert [os.waitpid(each, 0)[1] for each in copies] == [0, 0]

pyrl_sb3.SAC
execute(sys.argv[1])
"""


@pytest.fixture(scope="module")
def executions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("group")
    names = "first", "again"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("TORCHELASTIC")}
    begun = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder / name)], env=environ)
        for name in names
    ]
    assert [each.wait(200) for each in begun] == [0, 0]
    return [[dict(np.load(folder / f"{name}.{rank}.npz")) for rank in range(2)] for name in names]


@pytest.fixture(scope="module")
def copies(executions):
    return executions[0]


def part(copy, name, kind=""):
    start = f"{name}:{kind}"
    return {key[len(name) + 1 :]: a for key, a in copy.items() if key.startswith(start)}


def assert_close(found, expected):
    assert found
    for name, array in found.items():
        np.testing.assert_allclose(array, expected(name), rtol=2e-6, atol=1e-7, err_msg=name)


def test_they_begin_from_one_initialisation_with_streams_of_their_own(copies):
    name = "weights/policy.actor.mu.weight"
    own = [part(copy, "own")[name] for copy in copies]
    assert not np.array_equal(*own)
    for copy in copies:
        np.testing.assert_array_equal(part(copy, "begun")[name], own[0])
    assert not np.array_equal(*(copy["seen"] for copy in copies))


def test_mean_is_numpys_for_all_tensors(copies):
    trained = [part(copy, "trained") for copy in copies]
    for copy in copies:
        mean = part(copy, "mean")
        assert mean.keys() == trained[0].keys() == trained[1].keys()
        assert {name.partition("/")[0] for name in mean} == {"weights", "moments", "counts"}
        for name, array in mean.items():
            both = [each[name] for each in trained]
            if name.startswith("counts/"):
                expected = np.max(both, axis=0)
            else:
                expected = np.mean(both, axis=0, dtype=np.float64).astype(array.dtype)
            np.testing.assert_array_equal(array, expected, err_msg=name)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_other_strategies_by_hand(copies, rank):
    """Of two copies with scores 0 and 1; weights `a`, `b` and `mine`, from `start`."""
    a, b = (part(copy, "trained", "weights") for copy in copies)
    mine, start = (a, b)[rank], part(copies[0], "begun", "weights")
    e = np.exp(1.0)  # scores are -1 and 1 standard deviations from their mean

    def found(name):
        return part(copies[rank], name, "weights")

    assert_close(found("weighted"), lambda n: (a[n] / e + b[n] * e) / (1 / e + e))
    assert_close(found("best"), lambda n: b[n])
    assert_close(found("soft-best"), lambda n: (mine[n] + b[n]) / 2)
    assert_close(found("elastic"), lambda n: mine[n] - 0.45 * (mine[n] - start[n]))
    change = {n: start[n] - (a[n] + b[n]) / 2 for n in start}
    assert_close(found("outer"), lambda n: start[n] - 0.7 * (1 + 0.9) * change[n])
    moments = part(copies[rank], "outer", "moments")
    assert_close(moments, lambda n: part(copies[rank], "trained", "moments")[n])


def test_a_copy_that_ended_early_is_missed_by_nobody(copies):
    for copy in copies:
        assert all(np.isfinite(array).all() for array in part(copy, "learned").values())
        assert copy["latest"].tolist() == [1]


def test_two_executions_end_with_the_same_weights(executions):
    for one, other in zip(*executions, strict=True):
        assert one.keys() == other.keys()
        for name, array in one.items():
            np.testing.assert_array_equal(array, other[name], err_msg=name)

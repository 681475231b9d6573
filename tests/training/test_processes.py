"""Environments in processes of their own."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import SubprocVecEnv

from pyrl_sb3.buffers.relabel import GoalOracle, NoInfoError, no_infos
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.processes import RenewableSubprocVecEnv
from pyrl_sb3.training.renewable import RenewableVecEnv
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.resume import resume
from pyrl_sb3.training.run import train

GOALS = ("observation", "achieved_goal", "desired_goal")


class OddError(Exception):
    def __init__(self, one, two):
        super().__init__("it is odd")


class StrangeError(Exception):
    def __reduce__(self):
        return "".join, (["it is", " odd"],)


class Fragile(gym.Env):
    """Does what it is told by `trouble` in the step, or the reset, after `at` steps."""

    observation_space = spaces.Dict(dict.fromkeys(GOALS, spaces.Box(-1, 1, (1,))))
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, trouble=None, at=0):
        self.trouble, self.at, self.steps, self.opened = trouble, at, 0, os.getpid()

    def observe(self):
        return {key: np.full(1, np.random.uniform(-1, 1), np.float32) for key in GOALS}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.trouble == "reset" and self.steps:
            raise ArithmeticError("the simulator diverged")
        if self.trouble == "hang in reset":
            time.sleep(600)
        return self.observe(), {"steps": self.steps}

    def step(self, action):
        if self.steps == self.at:
            if self.trouble == "step":
                raise ArithmeticError("the simulator diverged")
            if self.trouble == "odd":
                raise OddError(1, 2)
            if self.trouble == "strange":
                raise StrangeError
            if self.trouble == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.trouble == "exit":
                os._exit(3)
            if self.trouble == "hang":
                time.sleep(600)
        self.steps += 1
        return self.observe(), 1.0, False, self.steps % 5 == 0, {"process": os.getpid()}

    def compute_reward(self, achieved, desired, info):
        return [each["reward"] for each in info]

    def of_a_program(self):
        program = subprocess.Popen(["sleep", "600"])
        program.terminate()
        return program.wait(20)

    def of_an_interrupted_process(self):
        return self.of_a_process(signal.SIGINT, signal.SIGTERM)

    def of_a_process(self, *signals):
        context = multiprocessing.get_context("fork")
        runs = context.Event()
        process = context.Process(target=lambda: (runs.set(), time.sleep(600)))
        process.start()
        runs.wait(20)  # a signal that comes as it begins may be lost
        for number in signals or [signal.SIGTERM]:
            os.kill(process.pid, number)
            process.join(0.2)
        process.join(20)
        return process.exitcode


def opened(*makers, logs=None):
    return RenewableSubprocVecEnv(makers, logs or [None] * len(makers), {})


def steps(env, n):
    for _ in range(n):
        found = env.step(np.zeros((env.num_envs, 1)))
    return found


def test_each_has_a_process_and_is_opened_anew_in_it(tmp_path):
    logs = [str(tmp_path / str(i)) for i in range(2)]
    with closing(opened(Fragile, Fragile, logs=logs)) as env:
        env.seed(0)
        env.reset()
        *_, infos = steps(env, 5)
        processes = [info["process"] for info in infos]
        assert len({*processes, os.getpid()}) == 3
        assert [info["steps"] for info in env.reset_infos] == [5, 5]
        env.renew()
        env.reset()
        assert [info["steps"] for info in env.reset_infos] == [0, 0]
        *_, infos = steps(env, 5)
        assert [info["process"] for info in infos] == processes == env.get_attr("opened")
    for log in logs:
        rows = Path(f"{log}.monitor.csv").read_text().splitlines()
        assert [row.split(",")[:2] for row in rows[2:]] == [["5.0", "5"]] * 2


def test_global_generators_draw_other_numbers_in_each_and_the_same_again():
    with closing(opened(Fragile, Fragile)) as env:
        drawn = []
        for seed in (7, 7, 8):
            env.renew()
            env.seed(seed)
            env.reset()
            observations, *_ = steps(env, 3)
            drawn.append(observations["observation"].flatten().tolist())
    assert drawn[0] == drawn[1]
    assert len({*drawn[0], *drawn[2]}) == 3  # 8 is the seed of one in each


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        ("step", "^the simulator diverged$"),
        ("reset", "^the simulator diverged$"),
        ("odd", "^OddError: it is odd$"),
        ("strange", "^StrangeError$"),
    ],
)
def test_what_one_raises_is_raised_here_and_its_process_lives_on(trouble, error):
    kind = ArithmeticError if trouble in ("step", "reset") else RuntimeError
    with closing(opened(Fragile, lambda: Fragile(trouble, at=2))) as env:
        env.reset()
        with pytest.raises(kind, match=error) as raised:
            steps(env, 5)
        assert env.failure is raised.value
        assert "in Fragile" not in str(raised.value)
        assert "raise" in str(raised.value.__cause__)  # the traceback there
        assert env.env_method("observe")[1].keys() == {*GOALS}
        with pytest.raises(KeyError, match="reward"):
            env.env_method("compute_reward", 0, 0, [{}], indices=[0])
        assert all(process.is_alive() for process in env.processes)


@pytest.mark.parametrize(
    ("trouble", "how"), [("killed", "by SIGKILL"), ("exit", "with code 3; what it said is above")]
)
def test_a_process_that_ends_is_named(trouble, how):
    with closing(opened(Fragile, lambda: Fragile(trouble, at=2))) as env:
        env.reset()
        with pytest.raises(
            RuntimeError, match=f"^the process of environment 1 ended {how}$"
        ) as error:
            steps(env, 3)
        assert env.failure is error.value
    assert not any(process.is_alive() for process in env.processes)


def test_one_that_is_killed_between_steps_is_named_once():
    with closing(opened(Fragile, Fragile, Fragile)) as env:
        env.reset()
        env.processes[1].kill()
        env.processes[1].join()
        with pytest.raises(
            RuntimeError, match=r"^the process of environment 1 ended by SIGKILL$"
        ) as caught:
            steps(env, 1)
    for frame, _ in traceback.walk_tb(caught.value.__cause__.__traceback__):
        assert not any(isinstance(each, memoryview) for each in frame.f_locals.values())


def test_what_opening_one_raises_is_raised_here():
    def broken():
        raise LookupError("no licence")

    with pytest.raises(LookupError, match="no licence"):
        opened(Fragile, broken)


def test_a_process_that_ends_as_it_opens_one_is_named():
    with pytest.raises(RuntimeError, match=r"^the process of environment 0 ended with code 4; "):
        opened(lambda: os._exit(4), Fragile)


def test_what_keeps_them_from_being_opened_is_raised(monkeypatch):
    def fail(self, *_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(SubprocVecEnv, "__init__", fail)
    with pytest.raises(OSError, match="Too many open files"):
        opened(Fragile)


@pytest.mark.parametrize("method", ["of_a_program", "of_a_process", "of_an_interrupted_process"])
def test_what_an_environment_starts_can_be_ended(method):
    with closing(opened(Fragile)) as env:
        assert env.env_method(method) == [-signal.SIGTERM]


def test_a_reward_that_needs_infos_says_so():
    with closing(opened(Fragile, Fragile)) as env:
        goals = np.zeros((4, 1), np.float32)
        with pytest.raises(NoInfoError, match="copy_info_dict=true"):
            GoalOracle(env).rewards(goals, goals, no_infos(4), np.array([0, 1, 0, 1]))


class Loose(gym.Env):
    """What its spaces do not say, and DummyVecEnv takes."""

    observation_space, action_space = spaces.Box(-9, 9, (3,)), spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return [0.1], {}

    def step(self, action):
        self.steps += 1
        return np.full((1, 3), 0.1 * self.steps), 0.1, self.steps // 3, 0, {}


def test_of_what_steps_give_all_is_as_in_one_process():
    found = []
    for kind in (RenewableVecEnv, RenewableSubprocVecEnv):
        with closing(kind([Loose, Loose], [None] * 2, {})) as env:
            found.append([(env.reset(),), *(env.step(np.zeros((2, 1))) for _ in range(4))])
    for here, there in zip(*found, strict=True):
        for one, other in zip(here[:3], there[:3], strict=True):
            assert one.dtype == other.dtype
            assert one.tolist() == other.tolist()


def test_signals_are_for_the_training_alone():
    with closing(opened(Fragile, Fragile)) as env:
        env.reset()
        for process in env.processes:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(process.pid, number)
        steps(env, 20)
        assert all(process.is_alive() for process in env.processes)


def test_one_that_hangs_is_not_waited_for():
    with closing(opened(lambda: Fragile("hang"))) as env:
        env.reset()
        env.step_async(np.zeros((1, 1)))
    assert not env.processes[0].is_alive()


def test_nor_one_that_hangs_in_a_reset():
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with closing(opened(lambda: Fragile("hang in reset"))) as env:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                env.reset()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not env.processes[0].is_alive()


def test_all_end_when_the_training_is_killed():
    reader, writer = os.pipe()
    training = os.fork()
    if not training:
        env = opened(Fragile, lambda: Fragile("hang"))
        env.reset()
        env.step_async(np.zeros((2, 1)))
        os.write(writer, b" ".join(b"%d" % process.pid for process in env.processes))
        time.sleep(600)
    os.set_blocking(reader, True)
    processes = [int(pid) for pid in os.read(reader, 100).split()]
    os.kill(training, signal.SIGKILL)
    os.waitpid(training, 0)
    assert len(processes) == 2
    deadline = time.monotonic() + 30
    while any(map(is_running, processes)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.learning
def test_a_script_that_closes_nothing_ends():
    script = """
import gymnasium as gym
from pyrl_sb3.training.processes import RenewableSubprocVecEnv

env = RenewableSubprocVecEnv([lambda: gym.make("Pendulum-v1")] * 2, [None] * 2, {})
env.reset()
print(*(process.pid for process in env.processes))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    assert not done.stderr
    assert not any(map(is_running, map(int, done.stdout.split())))


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


class Interrupted(BaseCallback):
    def __init__(self, at):
        super().__init__()
        self.at = at

    def _on_step(self):
        if self.num_timesteps >= self.at:
            raise KeyboardInterrupt
        return True


def asked(save, **more):
    overrides = ("learning_starts=20", "batch_size=8", "policy_kwargs={net_arch: [8]}")
    return TrainingRequest(
        agent="sac",
        env_id="Pendulum-v1",
        timesteps=240,
        seed=1,
        n_envs=2,
        save=save,
        save_freq=90,
        eval_freq=0,
        eval_episodes=1,
        overrides=(*overrides, "normalize=true", "train_freq=1"),
        **more,
    )


def weights(result):
    from stable_baselines3 import SAC

    return SAC.load(result.model).policy.state_dict()


def test_a_training_is_the_same_in_processes_and_when_it_goes_on(tmp_path):
    there = train(asked(tmp_path / "dummy"))
    here = train(asked(tmp_path / "subproc", vec_env="subproc"))
    with pytest.raises(KeyboardInterrupt):
        train(asked(tmp_path / "broken", vec_env="subproc"), [Interrupted(200)])
    resumed = resume(tmp_path / "broken" / "Pendulum-v1_1")
    first = weights(there)
    for other in (here, resumed):
        assert all(th.equal(first[name], values) for name, values in weights(other).items())
    assert str(there.evaluation) == str(here.evaluation) == str(resumed.evaluation)


def test_evaluations_in_this_process_are_no_reason_to_warn(tmp_path):
    request = asked(tmp_path, vec_env="subproc")
    request = replace(request, timesteps=10, eval_freq=5, overrides=request.overrides[:3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train(request).evaluation


def test_only_these_kinds():
    with pytest.raises(InputError, match=r"^--vec-env threads: must be dummy or subproc$"):
        asked(None, vec_env="threads")

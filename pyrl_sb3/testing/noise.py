"""What every noise process must fulfil. Each check is a function; `check_noise` runs them all."""

import copy
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import TD3
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv

from pyrl_sb3.noise.joint import WrongShapeError
from pyrl_sb3.plugins import (
    NoiseContext,
    PluginError,
    PluginManager,
    get_plugin_manager,
    make_noise,
)
from pyrl_sb3.plugins.errors import RAISED
from pyrl_sb3.testing.lost import left_out, loses
from pyrl_sb3.testing.require import CheckError, require, run
from pyrl_sb3.training.state import capture, restore
from pyrl_sb3.training.state_files import read_tree, write_tree

ACTION_DIM = 3
MATRIX = spaces.Box(-1, 1, (2, 2), np.float32)
STEPS = 64
EPISODES = 16

Array = NDArray[Any]


class Counting(gym.Env[Array, Array]):
    """Episodes of four steps, in which nothing happens."""

    observation_space = spaces.Box(0, 4, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (ACTION_DIM,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = np.zeros(1, np.float32)
        return self.time, {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        self.time = self.time + 1
        return self.time, 0.0, False, bool(self.time[0] == 4), {}


@dataclass(frozen=True, kw_only=True)
class NoiseCase:
    """A noise to check: its reference and parameters."""

    ref: str
    params: Mapping[str, Any] = field(default_factory=dict)
    manager: PluginManager = field(default_factory=get_plugin_manager)

    def make(
        self, n_envs: int = 1, seed: int = 0, actions: spaces.Box = Counting.action_space
    ) -> ActionNoise:
        """The noise, built as the library builds it."""
        context = NoiseContext(
            action_space=actions,
            n_envs=n_envs,
            rng=np.random.default_rng(seed),
            max_episode_steps=STEPS,
            total_timesteps=10 * STEPS,
        )
        try:
            return make_noise(self.manager, self.ref, self.params, context)
        except PluginError as error:
            raise CheckError(str(error)) from error


def draws_are_valid(case: NoiseCase) -> None:
    """Shape ``(action_dim,)`` or ``(n_envs, action_dim)``, float32, finite; also after a reset."""
    for n_envs in (1, 4):
        noise = case.make(n_envs)
        for _ in range(2):
            drawn = draw(noise)
            _check_shape(drawn, n_envs, (ACTION_DIM,))
            require(drawn.dtype == np.float32, f"draws are {drawn.dtype}, not float32")
            require(bool(np.isfinite(drawn).all()), "draws are not finite")
            noise.reset()


def draws_stay(case: NoiseCase) -> None:
    """A draw is not overwritten by the next one."""
    noise = case.make()
    first = noise()
    kept = first.copy()
    noise()
    require(np.array_equal(first, kept), "a draw changes when the next one is made")


def global_state_is_untouched(case: NoiseCase) -> None:
    """Neither reads nor moves numpy's global generator, which runs in one process share."""
    drawn = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        before = pickle.dumps(np.random.get_state())
        drawn.append(episodes(case.make()))
        require(pickle.dumps(np.random.get_state()) == before, "moves numpy's global generator")
    first, again, other = drawn
    if np.array_equal(first, again):  # else it is not for this generator that they differ
        require(np.array_equal(first, other), "depends on numpy's global generator")


def state_is_its_own(case: NoiseCase) -> None:
    """What one process draws does not depend on what another one, a copy of it, drew before."""
    made = case.make()
    one, other = (draw(copy.deepcopy(made)) for _ in range(2))
    problem = "draws by state that is not its own: a module's, say, or of its class"
    require(np.array_equal(one, other), problem)


def seeds_decide(case: NoiseCase) -> None:
    """The same seed gives the same draws, another seed others."""
    first, again, other = (episodes(case.make(4, seed)) for seed in (0, 0, 1))
    require(np.array_equal(first, again), "two processes with one seed draw differently")
    if first.any():
        require(not np.array_equal(first, other), "the seed has no influence")


def environments_differ(case: NoiseCase) -> None:
    """No two environments get the same draws, and one environment's reset leaves the others be."""
    noise, undisturbed = case.make(4), case.make(4)
    # Noise that is drawn once for an episode is the same in two environments now and then.
    drawn, _ = episodes(noise, EPISODES), episodes(undisturbed, EPISODES)
    for env in range(1, 4):
        same = np.array_equal(drawn[:, 0], drawn[:, env]) and drawn[:, 0].any()
        require(not same, f"environments 0 and {env} get the same noise")
    noise.reset(indices=[0])  # type: ignore[call-arg]
    others = np.array_equal(draw(noise)[:, 1:], draw(undisturbed)[:, 1:])
    remedy = "each is to draw from a generator of its own, of context.rng.spawn(n_envs)"
    require(others, f"the reset of environment 0 changes the noise of others: {remedy}")


def copies_continue(case: NoiseCase) -> None:
    """A pickled or deep-copied process goes on where the original stands."""
    for n_envs in (1, 4):
        noise = case.make(n_envs)
        draw(noise, 7)
        noise.reset()  # a copy knows what the new episode began with
        draw(noise, 7)
        twins = [copy.deepcopy(noise), pickle.loads(pickle.dumps(noise))]
        expected = episodes(noise)
        for twin in twins:
            goes_on = np.array_equal(episodes(twin), expected)
            require(goes_on, "a copy does not continue the stream")


def actions_may_be_matrices(case: NoiseCase) -> None:
    """Draws have the shape of an action, but of noise that raises: it may be for vectors only."""
    if _has_several(case.params):  # perhaps one for each dimension
        return
    for n_envs in (1, 4):
        try:
            noise = case.make(n_envs, actions=MATRIX)
            noise()
        except (CheckError, WrongShapeError):
            raise
        except RAISED:
            return
        _check_shape(draw(noise), n_envs, MATRIX.shape)


def _check_shape(drawn: Array, n_envs: int, action: tuple[int, ...]) -> None:
    shape = (STEPS, *action) if n_envs == 1 else (STEPS, n_envs, *action)
    require(drawn.shape == shape, f"{STEPS} draws have shape {drawn.shape}, not {shape}")


def _has_several(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_several, value.values()))
    return isinstance(value, Sized) and not isinstance(value, str)


def checkpoints_keep_it(case: NoiseCase) -> None:
    """One that is built anew with `--resume`, from what a checkpoint keeps, goes on as well."""
    for n_envs in (1, 4):
        noise, twin = case.make(n_envs), case.make(n_envs)
        draw(noise, 7)
        noise.reset()
        draw(noise, 4)  # else what goes by turns of 2 or 7 is where it began
        with tempfile.TemporaryDirectory() as temporary:
            kept = capture(noise, (object,))
            write_tree(kept, Path(temporary), "noise")
            restore(read_tree(Path(temporary), "noise"), twin)
        problem = loses(left_out(kept["$object"], noise, twin), "no text and none of __slots__")
        require(np.array_equal(episodes(twin), episodes(noise)), problem)


def stock_models_train(case: NoiseCase) -> None:
    """SB3's TD3 trains with it, in one environment and in two, over several episodes."""
    for n_envs in (1, 2):
        env, noise = DummyVecEnv([Counting] * n_envs), case.make(n_envs)
        model = TD3(
            "MlpPolicy",
            env,
            action_noise=noise,
            learning_starts=0,
            gradient_steps=0,
            buffer_size=STEPS,
            policy_kwargs={"net_arch": [4]},
            device="cpu",
        )
        try:
            model.learn(10 * n_envs)
        except RAISED as error:
            what = f"{type(error).__name__}: {error}"
            raise CheckError(f"n_envs={n_envs}: TD3 does not train with it: {what}") from error


def survives_a_new_interpreter(case: NoiseCase) -> None:
    """A saved process goes on in a new interpreter that has the same path."""
    noise = case.make(2)
    draw(noise, 7)
    saved = cloudpickle.dumps(noise)
    code = (
        "import pickle, sys; noise = pickle.load(sys.stdin.buffer);"
        f"sys.stdout.buffer.write(b''.join(noise().tobytes() for _ in range({STEPS})))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, input=saved, capture_output=True)
    require(done.returncode == 0, f"cannot be loaded in a new interpreter: {done.stderr.decode()}")
    require(done.stdout == draw(noise).tobytes(), "goes on differently in a new interpreter")


NOISE_CHECKS: tuple[Callable[[NoiseCase], None], ...] = (
    draws_are_valid,
    draws_stay,
    # These name the cause of what the next one would see too.
    global_state_is_untouched,
    state_is_its_own,
    seeds_decide,
    environments_differ,
    copies_continue,
    actions_may_be_matrices,
    checkpoints_keep_it,
    stock_models_train,
    survives_a_new_interpreter,
)


def check_noise(
    ref: str, params: Mapping[str, Any] | None = None, *, manager: PluginManager | None = None
) -> None:
    """
    Run all checks on the noise `ref`: ``plugin/name`` or ``pkg.mod:factory``.

    :param params: what the factory gets besides its context
    :param manager: the registry that has it; by default that of this process
    :raises AssertionError: saying what is wrong, or what was raised by what line of its code
    """
    case = NoiseCase(ref=ref, params=params or {}, manager=manager or get_plugin_manager())
    for check in NOISE_CHECKS:
        run(check, case)


def draw(noise: ActionNoise, steps: int = STEPS) -> Array:
    """The noise of `steps` steps, stacked."""
    return np.stack([noise() for _ in range(steps)])


def episodes(noise: ActionNoise, count: int = 2) -> Array:
    """The noise of some episodes of `STEPS` steps, with a reset between any two."""
    drawn = [draw(noise)]
    for _ in range(count - 1):
        noise.reset()
        drawn.append(draw(noise))
    return np.concatenate(drawn)

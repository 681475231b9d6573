"""Rounds of training and synchronisation in one process."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from pyrl_sb3.errors import as_whole
from pyrl_sb3.plugins import NoiseContext, get_plugin_manager, noise_from_config
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.randomness import random_states, restore_random_states
from pyrl_sb3.training.state import Tree
from pyrl_sb3.training.sync.callback import Score, mean_return
from pyrl_sb3.training.sync.state import Arrays, read_state, write_state
from pyrl_sb3.training.sync.statistics import merged, read_statistics, since, write_statistics
from pyrl_sb3.training.sync.strategies import Memory, Report, Strategy, strategy_of

MakeEnv: TypeAlias = "str | Callable[[], gym.Env[Any, Any]]"

_ENDLESS = 2**62  # schedules stay at their beginning


class AgentTrainer:
    """
    Several copies of one agent, and rounds in which each collects episodes and trains, after which
    all are synchronised:

        trainer = AgentTrainer(pyrl_sb3.TD3, "Pendulum-v1", n_seeds=4, sync="mean")
        for _ in range(20):
            returns = trainer.run(n_episodes=2, train_steps=400)
        trainer.master.save("td3_pendulum")

    The copies take turns in this process; each has its own environment, replay buffer and state of
    the global random generators, so the same arguments give the same weights. For copies that
    run at the same time use `pyrl td3-train ENV --seeds 4 --sync mean`, or `SeedSyncCallback`.

    Args:
        algorithm: an off-policy algorithm of SB3's or ours.
        env: the id of an environment, or what makes one; each copy gets its own.
        n_seeds: how many copies.
        sync: a name in `strategies.STRATEGIES`, or a function like these.
        seed: of the first copy; the others get the numbers after it.
        policy: as of the algorithm.
        noise: of the actions, in short, such as `ou_0.2`; each copy gets its own.
        total_timesteps: that each copy will make, for schedules such as of the learning rate,
            which stay at their end in rounds after these; needed by algorithms whose random
            actions become fewer, such as DQN.
        score: how good a copy is; by default the mean return of its last ten episodes.
        sync_params: of the strategy.
        model_kwargs: of the algorithm.

    Raises:
        InputError: there is no such strategy, or not with such parameters, a number is too small
            or not whole, no class or one that keeps no replay, one environment for all or several
            of a copy, noise for discrete actions, an object of noise, which would be the same for
            all, or no `total_timesteps` where needed.
        PluginError: there is no such noise, or it does not take its number.

    Attributes:
        models: the copies.
        master: a copy more, which stands for all of them after each round.
    """

    def __init__(
        self,
        algorithm: type[OffPolicyAlgorithm],
        env: MakeEnv,
        n_seeds: int,
        *,
        sync: str | Strategy = "mean",
        seed: int = 0,
        policy: str = "MlpPolicy",
        noise: str | None = None,
        total_timesteps: int | None = None,
        score: Score = mean_return,
        sync_params: dict[str, Any] | None = None,
        **model_kwargs: Any,
    ) -> None:
        n_seeds = _count("n_seeds", n_seeds, 1)
        seed = _count("seed", seed, 0)
        if total_timesteps is not None:
            total_timesteps = _count("total_timesteps", total_timesteps, 1)
        _check_arguments(algorithm, env, noise, model_kwargs)
        self.strategy = strategy_of(sync, sync_params or {})
        self.score = score
        before = random_states()
        self.models: list[OffPolicyAlgorithm] = []
        self._random: list[Tree] = []
        for number in range(seed, seed + n_seeds + 1):
            made = env if isinstance(env, str) else env()
            # SB3 changes dicts that it is given.
            model = algorithm(policy, made, seed=number, **deepcopy(model_kwargs))
            _check_copy(model, total_timesteps)
            model.action_noise = _noise(noise, model, number, total_timesteps)
            self.models.append(model)
            model._setup_learn(total_timesteps or _ENDLESS)  # what `learn` does before its loop
            self._random.append(random_states())
        self.master = self.models.pop()
        restore_random_states(before)
        state = read_state(self.models[0])
        for model in (*self.models, self.master):
            write_state(model, state)
        self._memory: Memory = {"weights": state.weights}
        self._adopt_statistics(read_statistics(self.models[0].get_vec_normalize_env()))

    @property
    def total_timesteps(self) -> int:
        """Environment steps that all copies have made together."""
        return sum(model.num_timesteps for model in self.models)

    def run(self, n_episodes: int, train_steps: int) -> list[float]:
        """
        Let each copy run episodes, then take gradient steps, and synchronise all of them.

        Args:
            n_episodes: of each copy.
            train_steps: of each copy; none before it has made its `learning_starts` steps.

        Returns:
            the score of each copy.

        Raises:
            InputError: a number is too small or not whole.
        """
        n_episodes = _count("n_episodes", n_episodes, 1)
        train_steps = _count("train_steps", train_steps, 0)
        outside = random_states()
        try:
            for copy, model in enumerate(self.models):
                restore_random_states(self._random[copy])
                self._round(model, n_episodes, train_steps)
                self._random[copy] = random_states()
        finally:
            restore_random_states(outside)
        return self._synchronise()

    def _round(self, model: OffPolicyAlgorithm, n_episodes: int, train_steps: int) -> None:
        callback = CallbackList([])  # lets everything pass
        callback.init_callback(model)
        assert model.env is not None
        assert model.replay_buffer is not None
        model.collect_rollouts(
            model.env,
            callback,
            TrainFreq(n_episodes, TrainFrequencyUnit.EPISODE),
            model.replay_buffer,
            action_noise=model.action_noise,
            learning_starts=model.learning_starts,
        )
        # More rounds may follow than were announced: schedules then stay at their end.
        model._current_progress_remaining = max(model._current_progress_remaining, 0.0)
        if train_steps and model.num_timesteps > model.learning_starts:
            model.train(gradient_steps=train_steps, batch_size=model.batch_size)

    def _synchronise(self) -> list[float]:
        scores = [self.score(model) for model in self.models]
        reports = {
            rank: Report(state=read_state(model), score=scores[rank])
            for rank, model in enumerate(self.models)
        }
        outcomes = [self.strategy(reports, rank, self._memory) for rank in reports]
        for model, outcome in zip(self.models, outcomes, strict=True):
            write_state(model, outcome.state)
        write_state(self.master, outcomes[0].master)
        self._memory = outcomes[0].memory
        seen = [read_statistics(model.get_vec_normalize_env()) for model in self.models]
        news = [since(each, self._statistics) for each in seen]
        self._adopt_statistics(merged(self._statistics, news))
        return scores

    def _adopt_statistics(self, statistics: Arrays) -> None:
        self._statistics = statistics
        for model in (*self.models, self.master):
            write_statistics(model.get_vec_normalize_env(), statistics)


def _count(name: str, value: Any, least: int) -> int:
    number = as_whole(value)
    if number is None or number < least:
        raise InputError(f"{name}={value!r}: must be a whole number, at least {least}")
    return number


def _check_arguments(
    algorithm: object, env: object, noise: object, model_kwargs: Mapping[str, Any]
) -> None:
    if not callable(algorithm):
        raise InputError(f"algorithm={algorithm!r}: must be a class, such as pyrl_sb3.TD3")
    if not isinstance(env, str) and not callable(env):
        raise InputError(
            f"env is a {type(env).__name__}: each copy needs its own; "
            "give its id, or a function that makes one"
        )
    if isinstance(noise, ActionNoise) or "action_noise" in model_kwargs:
        raise InputError("one object of noise is for one copy: say noise='normal_0.1'")


def _check_copy(model: OffPolicyAlgorithm, timesteps: int | None) -> None:
    if not isinstance(model, OffPolicyAlgorithm):
        raise InputError(
            f"{type(model).__name__} is no off-policy algorithm, such as SAC: it keeps no replay"
        )
    if model.n_envs > 1:
        raise InputError(
            f"env makes {model.n_envs} environments: each copy's rounds are whole "
            "episodes, of 1 environment; SeedSyncCallback synchronises copies of several"
        )
    if timesteps is None and hasattr(model, "exploration_schedule"):
        name = type(model).__name__
        raise InputError(f"total_timesteps: needed, {name} explores less towards its end")


def _noise(
    short: str | None, model: OffPolicyAlgorithm, seed: int, timesteps: int | None
) -> ActionNoise | None:
    if short is None:
        return None
    if not isinstance(model.action_space, gym.spaces.Box):
        raise InputError(f"noise {short}: none is for discrete actions; leave it out")
    context = NoiseContext(
        action_space=model.action_space,
        rng=np.random.default_rng(seed),
        n_envs=model.n_envs,
        total_timesteps=timesteps,
        learning_starts=model.learning_starts,
    )
    return noise_from_config(get_plugin_manager(), short, context)

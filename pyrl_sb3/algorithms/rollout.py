"""Collecting experience, with less between two steps of the environment."""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import RolloutReturn, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import should_collect_more_steps
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.sac import policies as sac
from stable_baselines3.td3 import policies as td3

from pyrl_sb3.algorithms import explicit
from pyrl_sb3.algorithms.acting import Array, features_of
from pyrl_sb3.algorithms.cloning import Cloning
from pyrl_sb3.algorithms.exploration import Exploration
from pyrl_sb3.algorithms.named import NamedPolicies
from pyrl_sb3.algorithms.replay import ReplayFiles
from pyrl_sb3.algorithms.sparse import SparseTargets
from pyrl_sb3.algorithms.step import GradientSteps
from pyrl_sb3.algorithms.watch import NetworkWatch
from pyrl_sb3.networks import refuse_nan
from pyrl_sb3.policies import LeanActing


class Rollouts(NamedPolicies, ReplayFiles, Exploration, Cloning, SparseTargets, GradientSteps):
    """
    Collecting experience for an SB3 off-policy algorithm; mixed in before it.

    Differences from SB3's:

    - action noise is not added to the uniform actions of the warm-up, whose bounds would collect
      what it pushes over them;
    - when a callback stops the training, the step it stopped at is stored and counted like any
      other, so that a later ``learn(reset_num_timesteps=False)`` goes on from there;
    - an observation is copied on its way to the replay buffer only where an episode ends: replay
      buffers copy what they store.
    """

    _bound = (*Exploration._bound, "_features", "_acts_plainly", "_actor_watch")
    _actor_watch: NetworkWatch | None = None

    def _setup_model(self) -> None:
        # SB3 does not look at the space that a saved model of another algorithm has.
        assert isinstance(self.action_space, spaces.Box), (
            f"{type(self).__name__} needs continuous actions (Box), not {self.action_space}"
        )
        low, high = self.action_space.low, self.action_space.high
        fixed = np.flatnonzero(low == high)
        if fixed.size:  # scaled to [-1, 1] it would be NaN
            raise ValueError(f"action {fixed[0]} is always {low.flat[fixed[0]]}: leave it out")
        super()._setup_model()

    def _bind(self) -> None:
        super()._bind()
        # As CombinedExtractor orders them
        keys = list(getattr(self.actor.features_extractor, "extractors", {}))
        self._features = features_of(self.observation_space, keys)
        self._acts_plainly = not self._obstacle and _predict_as_in_sb3(self, self.policy)
        self._actor_watch = NetworkWatch(self, ("actor",))

    def _ensure_acting(self) -> None:
        """Bind again where the actor is another than that whose parameters are acted on."""
        watch = self._actor_watch
        if watch is None or not (watch.same(self) and self._learners[0].acts()):
            self._bind_again()

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: ReplayBuffer,
        action_noise: ActionNoise | None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        asked = f"train_freq=({train_freq.frequency}, {train_freq.unit.value!r})"
        if train_freq.frequency < 1:
            raise ValueError(f"{asked}: collect at least one step or episode")
        if env.num_envs > 1 and train_freq.unit is not TrainFrequencyUnit.STEP:
            raise ValueError(f"{asked}: count steps with several envs")
        if self.policy.training:
            self.policy.set_training_mode(False)
        if self.use_sde:
            self.actor.reset_noise(env.num_envs)
        callback.on_rollout_start()
        steps = episodes = 0
        continue_training = True
        while continue_training and should_collect_more_steps(train_freq, steps, episodes):
            if self.use_sde and self.sde_sample_freq > 0 and steps % self.sde_sample_freq == 0:
                self.actor.reset_noise(env.num_envs)
            actions, buffer_actions = self._sample_action(
                learning_starts, action_noise, env.num_envs
            )
            new_obs, rewards, dones, infos = env.step(actions)
            self.num_timesteps += env.num_envs
            steps += 1
            # Under SB3's names, by which callbacks look them up
            num_collected_steps, num_collected_episodes = steps, episodes
            callback.update_locals(locals())
            continue_training = bool(callback.on_step())
            self._update_info_buffer(infos, dones)
            self._store_transition(replay_buffer, buffer_actions, new_obs, rewards, dones, infos)
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            self._on_step()
            for index in np.flatnonzero(dones):
                episodes += 1
                self._end_episode(int(index), action_noise, log_interval)
        callback.on_rollout_end()
        return RolloutReturn(steps * env.num_envs, episodes, continue_training)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[Array, Array]:
        self._ensure_acting()  # callbacks may replace the actor at every step
        sde_warmup = self.use_sde and self.use_sde_at_warmup
        if self.num_timesteps < learning_starts and not sde_warmup:
            actions = np.array([self.action_space.sample() for _ in range(n_envs)])
            return actions, self.policy.scale_action(actions)
        scaled = self._explore_with(action_noise)
        refuse_nan(scaled)
        return self.policy.unscale_action(scaled), scaled

    def _explore(self) -> Array:
        assert self._last_obs is not None
        if not self._acts_plainly:
            actions, _ = self.predict(self._last_obs, deterministic=False)
            return self.policy.scale_action(actions)
        actor: explicit.GaussianActor | explicit.DeterministicActor = self._learners[0]
        actions = actor.explore(self._features(self._last_obs))
        return actions.reshape(-1, *self.action_space.shape)  # type: ignore[misc]  # of a Box

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: Array,
        new_obs: Any,
        reward: Array,
        dones: Array,
        infos: list[dict[str, Any]],
    ) -> None:
        if dones.any():
            # The observation to store is the last of the episode, no longer that of the env.
            super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
            return
        obs: Any = self._last_obs
        next_obs = new_obs
        if self._vec_normalize_env is not None:
            obs, next_obs = self._last_original_obs, self._vec_normalize_env.get_original_obs()
            reward = self._vec_normalize_env.get_original_reward()
            self._last_original_obs = next_obs
        if isinstance(next_obs, dict):
            # SB3's DictReplayBuffer puts reshaped arrays into the dict it is given.
            obs, next_obs = dict(obs), dict(next_obs)
        replay_buffer.add(obs, next_obs, buffer_action, reward, dones, infos)
        self._last_obs = new_obs

    def _end_episode(
        self, index: int, action_noise: ActionNoise | None, log_interval: int | None
    ) -> None:
        """:param index: of the environment"""
        self._episode_num += 1
        if isinstance(action_noise, VectorizedActionNoise):
            action_noise.reset(indices=[index])
        elif action_noise is not None:
            action_noise.reset()
        if log_interval is not None and self._episode_num % log_interval == 0:
            self.dump_logs()


def _predict_as_in_sb3(model: Any, policy: Any) -> bool:
    """Whether neither the model nor its policy has been given an own way to predict."""
    ways = (sac.SACPolicy._predict, td3.TD3Policy._predict)
    return (
        type(model).predict is BaseAlgorithm.predict
        and type(policy).predict in (BasePolicy.predict, LeanActing.predict)
        and type(policy)._predict in ways
        and type(policy).obs_to_tensor is BasePolicy.obs_to_tensor
        and "predict" not in vars(model)
        and not {"predict", "_predict", "obs_to_tensor"} & vars(policy).keys()
    )

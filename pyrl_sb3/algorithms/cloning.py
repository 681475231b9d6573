"""Learning from demonstrations: their share of each batch, and behaviour cloning."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from pyrl_sb3 import losses
from pyrl_sb3.algorithms.cloning_settings import CloningSettings
from pyrl_sb3.algorithms.demo_observations import (
    as_shown,
    begin_statistics,
    normalized_anew,
    recorded_space,
)
from pyrl_sb3.algorithms.demo_rewards import check_rewards, with_rewards
from pyrl_sb3.algorithms.learners import Critics
from pyrl_sb3.algorithms.step import (
    Batch,
    GradientSteps,
    Metrics,
    rows_of,
    takes_gradient_steps,
)
from pyrl_sb3.buffers import DictReplayBuffer, HerReplayBuffer, ReplayBuffer
from pyrl_sb3.buffers.demofiles import load_demonstrations, require_file
from pyrl_sb3.buffers.demonstrations import DemonstrationError, Demonstrations

if TYPE_CHECKING:

    class _Base(GradientSteps):
        def _buffer_keywords(self) -> dict[str, Any]: ...
else:
    _Base = object


class Cloning(_Base):
    """
    Demonstrations for an SB3 off-policy algorithm (Nair 2018, https://arxiv.org/abs/1709.10089);
    mixed in before it.

    They have a replay buffer of the same kind as the agent's own, relabelled with goals like it,
    and make up the last rows of each batch. They are recorded as the environment shows and rewards
    things: frames are stacked here, and rewards changed, as the agent's are. Their observations
    also go into VecNormalize's statistics before the first step, so that a warm start sees what
    training will see.

    Deviations from the paper: states are not reset to demonstrated ones; the loss of cloning is a
    mean and not a sum, so that its weight does not depend on the batch. SAC clones with the actions
    it draws, which also makes it surer of them.

    :param demonstrations: a file for `load_demonstrations`, or what that returns
    :param demonstration_kwargs: see `CloningSettings`
    :raises ValueError: a setting that is unknown or out of range
    :raises DemonstrationError: for no demonstrations; when training begins, for those of
        something else
    """

    def __init__(
        self,
        *args: Any,
        demonstrations: str | Path | Demonstrations | None = None,
        demonstration_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.demonstrations = demonstrations
        self.demonstration_kwargs = demonstration_kwargs
        self._has_seen_demonstrations = False
        self._episodes_of: str | None = None  # where those came from that are not saved
        self._cloning = CloningSettings.of(demonstration_kwargs)
        self._demo_buffer: ReplayBuffer | None = None
        self._names_buffer = kwargs.get("replay_buffer_class") is not None
        super().__init__(*args, **kwargs)

    def _excluded_save_params(self) -> list[str]:
        names = [*super()._excluded_save_params(), "_demo_buffer", "_cloning"]
        if isinstance(self.demonstrations, Demonstrations):
            names.append("demonstrations")  # a file is found again, these would be pickled
        return names

    def _setup_model(self) -> None:
        given = self.demonstrations
        if given is not None and not isinstance(given, Demonstrations):
            require_file(given)
        super()._setup_model()
        self._cloning = CloningSettings.of(self.demonstration_kwargs)
        if given is not None:
            self._episodes_of = given.source if isinstance(given, Demonstrations) else None

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        super().set_env(env, force_reset)
        self._demo_buffer = None  # to be filled again, with this environment's rewards

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        prepared = super()._setup_learn(*args, **kwargs)
        if self.demonstrations is None:
            if self._episodes_of is not None:
                warnings.warn(
                    f"the demonstrations of {self._episodes_of} were not saved with the model, "
                    "which goes on without: load it with demonstrations=..., or give it a file",
                    stacklevel=3,
                )
            return prepared
        # Neither counts steps that another `learn()` begins to count anew.
        new = not self._has_seen_demonstrations and self.num_timesteps == self._n_updates == 0
        self._load_demonstrations(into_statistics=new)
        if new:
            self._has_seen_demonstrations = True
            self._warm_start()
        return prepared

    def _begin_training(self) -> None:
        self._load_demonstrations()
        super()._begin_training()

    def _load_demonstrations(self, *, into_statistics: bool = False) -> None:
        """Fill the demonstrations' buffer, if there are any and that has not been done."""
        found, env, filled = self.demonstrations, self.env, self._demo_buffer
        # A hindsight buffer of a copy has no environment. `set_env` would deal out what it holds to
        # as many environments, each with less room.
        if isinstance(filled, HerReplayBuffer) and filled.env is None and env is not None:
            filled.ask(env)
        if found is None or filled is not None:
            return
        if not isinstance(found, Demonstrations):
            found = load_demonstrations(found)
        assert env is not None
        assert isinstance(self.action_space, spaces.Box)
        check_for(env, self.action_space, found)
        found = with_rewards(env, found)
        self._demo_buffer = buffer = self._new_demo_buffer(found.n_steps)
        for shown in as_shown(env, found):
            shown.fill(buffer)
        if into_statistics:
            begin_statistics(env, found)
            self._last_obs = normalized_anew(env, self._last_obs, self._last_original_obs)

    def _new_demo_buffer(self, steps: int) -> ReplayBuffer:
        kind: Any = type(self.replay_buffer)
        require_room(kind, self.batch_size)
        keywords = {**self._buffer_keywords(), "seed": 0}  # it draws with the agent's generator
        if issubclass(kind, HerReplayBuffer):
            keywords["env"] = self.env
        spaces = self.observation_space, self.action_space
        buffer: ReplayBuffer = kind(steps, *spaces, device=self.device, n_envs=1, **keywords)
        return buffer

    @takes_gradient_steps
    def _warm_start(self) -> None:
        """Clone the demonstrations without regard to rewards."""
        self._begin_training()
        actor, metrics = self._learners[0], Metrics()
        for _ in range(self._cloning.warm_start):
            batch = self._demo_batch(self.batch_size)
            everywhere = th.ones_like(batch.rewards)
            if hasattr(actor, "sample"):  # SAC's
                a, log_pi, _, _ = actor.sample(batch.observations, batch.observations)
                da = losses.cloning_gradient(a, batch.actions, everywhere)
                actor.descend(da, th.zeros_like(log_pi))
            else:
                a = actor.act(batch.observations)
                actor.descend(losses.cloning_gradient(a, batch.actions, everywhere))
                actor.track(1.0)
            metrics.add(warm_start_loss=losses.cloning_loss(a, batch.actions, everywhere))
        if self._cloning.warm_start:
            self._record(metrics)

    def _sample(self, batch_size: int) -> Batch:
        if self._demo_buffer is None:
            return super()._sample(batch_size)
        demos = min(max(round(self._cloning.share * batch_size), 1), batch_size - 1)
        return _joined(super()._sample(batch_size - demos), self._demo_batch(demos))

    def _demo_batch(self, size: int) -> Batch:
        assert self._demo_buffer is not None
        # The agent's stream of random numbers, so that resuming its buffer resumes both.
        self._demo_buffer.rng = self.replay_buffer.rng  # type: ignore[union-attr]  # one of ours
        return self._batch(self._demo_buffer.sample(size, env=self._vec_normalize_env))

    def _update_priorities(self, batch: Batch, q: th.Tensor, y: th.Tensor) -> None:
        if batch.demos:
            q, y = q[:, : -batch.demos], y[: -batch.demos]
        super()._update_priorities(batch, q, y)

    def _cloned(
        self,
        batch: Batch,
        critics: Critics,
        actions: th.Tensor,
        q: th.Tensor,
        gradients: tuple[th.Tensor, ...],
        metrics: Metrics,
    ) -> tuple[th.Tensor, ...]:
        """
        The actor's gradients with those of behaviour cloning in the demonstrations' rows.

        :param critics: whose ``action_gradient`` has been taken
        :param actions: ``(B, action_dim)``, of the policy
        :param q: ``(N, B, 1)``, of these actions
        :param gradients: by the actions, and by what else the policy puts out
        """
        weight = self._cloning.weight_at(self.num_timesteps)
        if not batch.demos or not weight:
            return gradients
        rows = slice(-batch.demos, None)
        a, a_demo, s = actions[rows], batch.actions[rows], rows_of(batch.observations, rows)
        gradients = tuple(self._cloning.rl_weight * gradient for gradient in gradients)
        mask = th.ones_like(batch.rewards[rows])
        if self._cloning.q_filter:
            mask = losses.q_filter(critics.q_values(s, a_demo)[: len(q)], q[:, rows])
        gradients[0][rows] += weight * losses.cloning_gradient(a, a_demo, mask)
        metrics.add(bc_loss=losses.cloning_loss(a, a_demo, mask), bc_cloned=mask.mean())
        return gradients


def check_for(env: VecEnv, actions: spaces.Box, demonstrations: Demonstrations) -> None:
    """Raise DemonstrationError where an agent in `env` cannot learn from them."""
    spec = env.get_attr("spec", [0])[0]
    demonstrations.check(recorded_space(env), actions, spec.id if spec else None)
    check_rewards(env, demonstrations)


def require_room(buffer: type, batch_size: int) -> None:
    """Raise DemonstrationError where such a replay buffer or batch has no place for them."""
    if batch_size < 2:  # one row of each
        raise DemonstrationError(
            f"batch_size={batch_size} has no room for demonstrations: at least 2"
        )
    if not issubclass(buffer, ReplayBuffer):
        # Each has SB3's buffer for the same purpose as its last base.
        kinds = (HerReplayBuffer, DictReplayBuffer, ReplayBuffer)
        ours = next((kind for kind in kinds if issubclass(buffer, kind.__bases__[-1])), kinds[-1])
        raise DemonstrationError(
            f"demonstrations need a replay buffer of pyrl_sb3, not {buffer.__module__}."
            f"{buffer.__name__}: set replay_buffer_class=pyrl_sb3.{ours.__name__}"
        )


def _joined(own: Batch, demos: Batch) -> Batch:
    """The rows of both; the weights of the demonstrations are 1."""
    n = len(demos.actions)
    both: dict[str, Any] = {}
    for name in ("observations", "actions", "next_observations", "dones", "rewards"):
        a, b = getattr(own, name), getattr(demos, name)
        both[name] = (
            {key: th.cat([a[key], b[key]]) for key in a} if isinstance(a, dict) else th.cat([a, b])
        )
    gamma = own.gamma
    if isinstance(gamma, th.Tensor) and isinstance(demos.gamma, th.Tensor):
        gamma = th.cat([gamma, demos.gamma])
    weights = own.weights
    if weights is not None:
        weights = th.cat([weights, weights.new_ones(n, 1)])
    return own._replace(**both, gamma=gamma, weights=weights, demos=n)

"""When the checkpoints of a run are taken, and how a training goes on from one."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from pyrl_sb3.errors import counted
from pyrl_sb3.training.checkpoint import Checkpoint, Moment, Save, write_checkpoint
from pyrl_sb3.training.checkpoint_folder import CheckpointFolder
from pyrl_sb3.training.kept import end_episodes
from pyrl_sb3.training.logs import keep_logs
from pyrl_sb3.training.models import save_model
from pyrl_sb3.training.renewable import Renewable
from pyrl_sb3.training.request import require_at_least, require_if_given

log = logging.getLogger("pyrl_sb3")

Observations: TypeAlias = npt.NDArray[Any] | dict[str, npt.NDArray[Any]]

_SEEDS = 2**31 - 1024  # the environments' are this and the next ones


def restart(
    model: OffPolicyAlgorithm,
    callbacks: Sequence[BaseCallback],
    seed: int,
    others: Sequence[VecEnv] = (),
) -> None:
    """
    Begin new episodes from a seed alone, whatever the environments have been through.

    Those that can be, of evaluations too, are opened anew: not all are as new after a reset. Of
    evaluations are those of SB3's callbacks, of those within these too, and `others`.
    """
    env = model.get_env()
    assert env is not None
    every = (each for callback in callbacks for each in _within(callback))
    evaluating = [each.eval_env for each in every if isinstance(each, EvalCallback)]
    there = [each.unwrapped for each in evaluating]
    evaluating += [each for each in others if each.unwrapped not in there]
    for number, each in enumerate((env, *evaluating)):
        if isinstance(each.unwrapped, Renewable):
            each.unwrapped.renew()
        each.seed(seed + number * env.num_envs)
    model._last_obs = _as_read(env.reset())  # type: ignore[arg-type]  # of no Tuple space
    normalize = model.get_vec_normalize_env()
    if normalize is not None:
        model._last_original_obs = normalize.get_original_obs()
    if model.action_noise is not None:
        model.action_noise.reset()
    end_episodes(model.replay_buffer)


def _as_read(observations: Observations) -> Observations:
    """
    Lay observations out as those that a checkpoint is read from: images whose colours were put
    first are not, and of several environments convolutions round them otherwise.
    """
    if isinstance(observations, dict):
        return {key: np.ascontiguousarray(values) for key, values in observations.items()}
    return np.ascontiguousarray(observations)


class Checkpoints(BaseCallback):
    """
    Takes checkpoints in the course of a training, and goes on from the latest.

        checkpoints = Checkpoints(Path("run/checkpoints"), save_freq=10_000)
        checkpoints.resume(model)
        left = 100_000 - model.num_timesteps
        model.learn(left, callback=[checkpoints, ...], reset_num_timesteps=False)

    A checkpoint is due every `save_freq` steps, and taken between two rollouts at the end of an
    episode, or after `save_freq` more steps without one. The environments are then reset from a new
    seed, in the training that goes on as in the one that is resumed later, so that both do the same
    from here, bit for bit. With `exact=False` nothing is reset: a resumed training is then a fair
    continuation, not the same one.

    Attributes of the other callbacks that are numbers, arrays, generators or containers of these go
    on too, unless a callback's `keeps_state` is False.

    Args:
        folder: for the checkpoints.
        save_freq: environment steps between checkpoints; None or 0 takes none but those asked for.
        keep_last: how many remain.
        exact: reset the environments at checkpoints.
        by_steps: do not wait for the end of an episode: copies of a training then take theirs at
            the same steps.
        save: writes the model; `save_model` unless said.
        evaluating: environments that other callbacks than SB3's evaluate in.
        logs_of: the folder of a run whose logs are kept with each checkpoint.
        trust: leave it to PyTorch alone which tensors are read, see `Checkpoint`.
        resumed: called with the steps that there were, when all of `resume` has been put back.

    Raises:
        InputError: a number is too small or not whole.
    """

    model: OffPolicyAlgorithm

    def __init__(
        self,
        folder: Path | str,
        *,
        save_freq: int | None = None,
        keep_last: int = 2,
        exact: bool = True,
        by_steps: bool = False,
        save: Save = save_model,
        evaluating: Sequence[VecEnv] = (),
        logs_of: Path | str | None = None,
        trust: bool = False,
        resumed: Callable[[int], None] = lambda after: None,
    ) -> None:
        super().__init__()
        self.folder = CheckpointFolder(Path(folder))
        self.save_freq = require_if_given(0, "save_freq", save_freq) or None
        self.keep_last = require_at_least(1, "keep_last", keep_last)
        self.exact = exact
        self.by_steps = by_steps
        self.save = save
        self.evaluating = evaluating
        self.logs_of = None if logs_of is None else Path(logs_of)
        self.trust = trust
        self.resumed = resumed
        self.begin_with: Checkpoint | None = None
        self._due: int | None = None
        self._wanted = False

    def resume(self, model: OffPolicyAlgorithm, checkpoint: Checkpoint | None = None) -> bool:
        """
        Let the next `learn(..., reset_num_timesteps=False)` go on from a checkpoint.

        Args:
            model: of the same build as the one it was taken from.
            checkpoint: which; by default the latest.

        Returns:
            whether there is one.

        Raises:
            StateError: it is damaged; `learn` raises it where it does not fit the model.
        """
        if checkpoint is None:
            latest = self.folder.latest()
            if latest is None:
                return False
            checkpoint = Checkpoint(latest, trust=self.trust)
        self.begin_with = checkpoint
        model.num_timesteps = checkpoint.moment.timesteps
        return True

    def _on_step(self) -> bool:
        if self._due is not None and self.num_timesteps >= self._due:
            assert self.save_freq is not None
            late = self.num_timesteps >= self._due + self.save_freq
            at_once = late or self.by_steps or not self.exact
            self._wanted |= at_once or bool(self.locals["dones"].any())
        return True

    def _on_rollout_start(self) -> None:
        if self.begin_with is not None:
            self._begin(self.begin_with)
        elif self._wanted:
            self.take(reset=self.exact)
        elif self._due is not None:
            return
        self._wanted = False
        if self.save_freq is not None:
            self._due = (self.model.num_timesteps // self.save_freq + 1) * self.save_freq

    def _on_training_end(self) -> None:
        if self.begin_with is not None:  # there was no step left to make
            self._begin(self.begin_with)

    def take(self, *, reset: bool = False) -> Path:
        """
        Take a checkpoint now; raises OSError where it cannot be written.

        Args:
            reset: whether to reset the environments of the running training.
        """
        others = self._others()
        timesteps = self.model.num_timesteps
        seed = int(np.random.randint(_SEEDS)) if reset else _next_seed(timesteps)
        moment = Moment(timesteps=timesteps, env_seed=seed, reset=reset)
        if reset:
            self._restart(moment)

        def write(folder: Path, before: Path | None) -> None:
            logs = keep_logs(self.logs_of, folder) if self.logs_of else None
            write_checkpoint(folder, self.model, others, moment, self.save, before, logs)

        path = self.folder.add(moment.timesteps, write, self.keep_last)
        if reset:
            self._redraw_exploration()
        return path

    def _begin(self, checkpoint: Checkpoint) -> None:
        if checkpoint.moment.reset:
            self._restart(checkpoint.moment)
        checkpoint.restore(self.model, self._others())
        if not checkpoint.moment.reset:
            self._restart(checkpoint.moment)
        self._redraw_exploration()
        self.resumed(checkpoint.moment.timesteps)
        self.begin_with = None
        log.info("going on after %s", counted(checkpoint.moment.timesteps, "step"))

    def _restart(self, moment: Moment) -> None:
        restart(self.model, self._others(), moment.env_seed, self.evaluating)

    def _redraw_exploration(self) -> None:
        """Draw gSDE's matrices, which are in no state, from the random state that is."""
        if self.model.use_sde:
            # SB3 declares a plain module
            self.model.actor.reset_noise(self.model.n_envs)  # type: ignore[operator]

    def _others(self) -> list[BaseCallback]:
        others = (each for each in _flat(self.locals["callback"]) if each is not self)
        return [each for each in others if getattr(each, "keeps_state", True)]


def _next_seed(timesteps: int) -> int:
    """
    Draw from a copy of numpy's random state: a training that is not reset notices nothing.

    That state may be the same at the next checkpoint, the number of steps is not.
    """
    state = np.random.RandomState()
    state.set_state(np.random.get_state())
    return int(np.random.default_rng((state.randint(_SEEDS), timesteps)).integers(_SEEDS))


def _flat(callback: BaseCallback) -> Iterator[BaseCallback]:
    if isinstance(callback, CallbackList):
        for each in callback.callbacks:
            yield from _flat(each)
    else:
        yield callback


def _within(callback: BaseCallback) -> Iterator[BaseCallback]:
    """A callback, and those that it calls, as SB3's `EventCallback` does."""
    yield callback
    for name in ("callback", "callback_on_new_best"):
        inner = getattr(callback, name, None)
        if isinstance(inner, BaseCallback):
            for each in _flat(inner):
                yield from _within(each)

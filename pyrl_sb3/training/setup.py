"""A run's environments, model and logs, opened."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from pathlib import Path
from typing import NamedTuple, TypeAlias

from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv

from pyrl_sb3.config import ConfigError, Experiment, Reference
from pyrl_sb3.errors import short
from pyrl_sb3.plugins import PluginError
from pyrl_sb3.plugins.errors import RAISED
from pyrl_sb3.plugins.records import Record
from pyrl_sb3.training.agents import NamedAgent, find_agent
from pyrl_sb3.training.begun_with import TrainedAgent
from pyrl_sb3.training.checkpoint import Checkpoint
from pyrl_sb3.training.environments import vector_env
from pyrl_sb3.training.errors import InputError, first_line, made_by
from pyrl_sb3.training.fit import check_new_goals
from pyrl_sb3.training.logs import continued_logger, new_logger
from pyrl_sb3.training.models import build_model
from pyrl_sb3.training.normalization import normalized
from pyrl_sb3.training.request import CompleteRequest
from pyrl_sb3.training.signals import StopSignals

Callbacks: TypeAlias = MaybeCallback | Iterable[BaseCallback]


@dataclass(frozen=True, kw_only=True)
class Run:
    """
    A run that can begin, or go on.

    Attributes:
        folder: where it writes.
        request: what for.
        experiment: the hyperparameters.
        uses: the components, by their names in the registry and with their versions.
        checkpoint: where it goes on from; None for the beginning.
        signals: that stop it.
    """

    folder: Path
    request: CompleteRequest
    experiment: Experiment
    uses: Sequence[Record]
    checkpoint: Checkpoint | None = None
    signals: StopSignals = field(default_factory=StopSignals)

    @property
    def agent(self) -> NamedAgent:
        """The agent, in SB3's algorithm where that was asked for."""
        return find_agent(self.request.agent, stock=self.request.stock)


class SetUp(NamedTuple):
    """
    What a run is made of.

    Attributes:
        model: untrained.
        eval_env: for the run's own evaluations.
        callbacks: those of the experiment.
        theirs: the environments for evaluations that some of these have been given, one each.
    """

    model: OffPolicyAlgorithm
    eval_env: VecEnv
    callbacks: list[BaseCallback]
    theirs: list[VecEnv]

    @property
    def evaluating(self) -> list[VecEnv]:
        """All environments for evaluations."""
        return [self.eval_env, *self.theirs]


def set_up(run: Run, opened: ExitStack) -> SetUp:
    """
    Open and make what a run needs; what is to be closed comes into `opened`.

    Raises:
        InputError: an argument that only a constructor objects to, of the model, of a wrapper or of
            a callback; or wrappers of all environments do not compute the rewards that the agent
            asks for; or as `TrainedAgent`.
        ConfigError, PluginError: see `build_model`.
    """
    with _saying_what_a_constructor_objects_to(run):
        references = run.experiment.callback
        env = _learning_env(run, opened)
        # Before the model, which seeds what their constructors may draw from.
        eval_env = _evaluation_env(run, opened)
        given = [
            _evaluation_env(run, opened) if each.lacks("eval_env") else None for each in references
        ]
        options = run.experiment.arguments.get("replay_buffer_kwargs")
        check_new_goals(run.agent, env, run.request.env_id, options or {})
        model = _model(run, env)
        # As SB3 has wrapped the model's: images with channels last are turned.
        wrap = partial(model._wrap_env, monitor_wrapper=False)
        eval_env = wrap(eval_env)
        theirs = [None if each is None else wrap(each) for each in given]
        callbacks = [_callback(*both) for both in zip(references, theirs, strict=True)]
    moment = run.checkpoint.moment if run.checkpoint else None
    logger = continued_logger(run.folder, moment.timesteps) if moment else new_logger(run.folder)
    opened.callback(logger.close)
    model.set_logger(logger)
    return SetUp(model, eval_env, callbacks, [each for each in theirs if each is not None])


def check_beginning(request: CompleteRequest, experiment: Experiment) -> None:
    """
    Check that a training can begin with the trained agent that it is to begin with, if any, where
    other processes will do it. Nothing is written; raises as `set_up`.
    """
    if request.trained_agent is None:
        return
    run = Run(folder=Path(), request=request, experiment=experiment, uses=())
    with _saying_what_a_constructor_objects_to(run), ExitStack() as opened:
        normalize = _normalizing(experiment)
        env = vector_env(request.env_id, 1, request.seed, experiment, normalize=normalize)
        opened.callback(env.close)
        _model(run, env)


@contextmanager
def _saying_what_a_constructor_objects_to(run: Run) -> Iterator[None]:
    try:
        yield
    except (InputError, ConfigError, PluginError, OSError):
        raise
    except RAISED as error:
        raise InputError(
            f"{run.agent.title} cannot be made of {run.experiment.source}: {first_line(error)}; "
            "check the values there and in --set"
        ) from error


def _model(run: Run, env: VecEnv) -> OffPolicyAlgorithm:
    """The model, untrained, or as the agent with which the training begins."""
    request, before = run.request, None
    if request.trained_agent is not None and run.checkpoint is None:
        before = TrainedAgent(
            request.trained_agent, run.agent, env, request.device, trust=request.trust
        )
    model = build_model(
        run.agent,
        env,
        run.experiment,
        timesteps=request.timesteps,
        seed=request.seed,
        device=request.device,
    )
    if before:
        before.hand_over(model, run.experiment.source)
    return model


def callback_list(given: Callbacks) -> list[BaseCallback]:
    """Return callbacks that are given as to SB3's `learn`; InputError, naming what is none."""
    if given is None:
        return []
    if isinstance(given, (BaseCallback, str)) or not isinstance(given, Iterable):
        return _called(given)
    return [one for each in given for one in _called(each)]


def _called(given: object) -> list[BaseCallback]:
    if type(given) is CallbackList:  # taken apart, so that what fails is named
        return callback_list(given.callbacks)
    if isinstance(given, BaseCallback):
        return [given]
    if isinstance(given, type):
        name = given.__name__
        raise InputError(f"callbacks: {name} is a class: give what it makes, {name}(...)")
    if not callable(given):
        raise InputError(
            f"callbacks: {short(given)} is no callback: give BaseCallbacks of SB3, or a function"
        )
    return [ConvertCallback(given)]


def _callback(reference: Reference, eval_env: VecEnv | None = None) -> BaseCallback:
    target, arguments = reference.resolved()
    if isinstance(target, BaseCallback):
        return target  # of a trusted Python file
    what = f"{reference.where}: {short(reference.name)}"
    make = partial(target, **arguments)
    made = made_by(make if eval_env is None else partial(_judging, make, eval_env), what)
    if not isinstance(made, BaseCallback):
        raise InputError(f"{what} gives {type(made).__name__}, which is no BaseCallback")
    return made


def _judging(make: Callable[..., object], eval_env: VecEnv) -> object:
    """A callback that may want an environment to evaluate in, or give its parent one of its own."""
    if "eval_env" not in signature(make).parameters:
        try:
            return make()
        except TypeError as error:
            if "eval_env" not in str(error):
                raise
    return make(eval_env=eval_env)


def _learning_env(run: Run, opened: ExitStack) -> VecEnv:
    request, experiment = run.request, run.experiment
    env = vector_env(
        request.env_id,
        request.n_envs,
        request.seed,
        experiment,
        monitor=run.folder,
        continued=run.checkpoint.moment.timesteps if run.checkpoint else None,
        normalize=_normalizing(experiment),
        processes=request.processes,
    )
    opened.callback(env.close)
    return env


def _evaluation_env(run: Run, opened: ExitStack) -> VecEnv:
    request, experiment = run.request, run.experiment
    normalize = _normalizing(experiment)
    if normalize is not None:
        normalize = partial(normalize, training=False, norm_reward=False)
    seed = request.seed + request.n_envs
    env = vector_env(request.env_id, 1, seed, experiment, training=False, normalize=normalize)
    opened.callback(env.close)
    return env


def _normalizing(experiment: Experiment) -> Callable[..., VecEnv] | None:
    if experiment.normalize is None:
        return None
    return partial(normalized, **experiment.normalize)

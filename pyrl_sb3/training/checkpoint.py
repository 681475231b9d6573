"""One checkpoint: a folder with all that a training needs to go on as if it had not stopped."""

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from pyrl_sb3.errors import counted
from pyrl_sb3.plugins import SyncContext
from pyrl_sb3.training.errors import damage, first_line
from pyrl_sb3.training.evaluation import PeriodicEvaluation
from pyrl_sb3.training.folders import MODEL, sync_file
from pyrl_sb3.training.kept import check_buffer, load_buffer, save_buffer
from pyrl_sb3.training.logs import LogMarks
from pyrl_sb3.training.misfits import optimizer_misfit
from pyrl_sb3.training.randomness import random_states, restore_random_states
from pyrl_sb3.training.state import (
    MAKES_WAY,
    StateError,
    Stateful,
    Tree,
    capture,
    capture_attributes,
    restore,
    restore_attributes,
)
from pyrl_sb3.training.state_files import read_tree, write_tree
from pyrl_sb3.training.untrusted import check_archive, read_member, read_tensors

FORMAT = 1
BUFFER = "replay_buffer"
_STATE = "state"
_VARIABLES = "pytorch_variables"  # of SB3's archives

Save = Callable[[OffPolicyAlgorithm, Path], None]

# What `learn()` sets anew from its arguments and the clock.
_OF_LEARN = ("_total_timesteps", "_num_timesteps_at_start", "start_time")
# What callbacks get anew before each use; `eval_env` is opened anew.
OF_CALLS = ("model", "locals", "globals", "parent", "eval_env")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """
    When a checkpoint was taken.

    Attributes:
        timesteps: environment steps since the training began.
        env_seed: of the environments as they were, or are to be, reset here.
        reset: whether the training that took it reset its environments here; otherwise only one
            that is resumed from here does.

    Raises:
        ValueError: they are something else.
    """

    timesteps: int
    env_seed: int
    reset: bool

    def __post_init__(self) -> None:
        for number in (self.timesteps, self.env_seed):
            if type(number) is not int or number < 0:
                raise ValueError(f"{str(number)[:40]!r} is no number of steps, nor a seed")
        if type(self.reset) is not bool:
            raise ValueError("it does not say whether environments were reset")


def write_checkpoint(
    folder: Path,
    model: OffPolicyAlgorithm,
    callbacks: Sequence[BaseCallback],
    moment: Moment,
    save: Save,
    before: Path | None = None,
    logs: LogMarks | None = None,
) -> None:
    """
    Write everything into an empty folder, and through to the disk.

    Args:
        folder: to write to.
        model: between two rollouts.
        callbacks: what the training reports to.
        moment: now.
        save: writes the model in SB3's format, for whoever wants to try it.
        before: an earlier checkpoint, unchanged parts of whose replay buffer are linked.
        logs: see `keep_logs`.

    Raises:
        OSError: no space is left, for example.
    """
    save(model, folder / MODEL)
    earlier = before / BUFFER if before else None
    assert model.replay_buffer is not None
    logs = logs or LogMarks()
    tree = {
        "format": FORMAT,
        "moment": asdict(moment),
        "log_sizes": capture(dict(logs.sizes)),
        "log_checksums": capture(dict(logs.checksums)),
        "buffer": save_buffer(model.replay_buffer, folder / BUFFER, earlier),
        **_parts(model, callbacks),
    }
    for file in write_tree(tree, folder, _STATE):
        sync_file(file)


def _parts(model: OffPolicyAlgorithm, callbacks: Sequence[BaseCallback]) -> dict[str, Tree]:
    return {
        "model": capture_attributes(model, skip=_not_state(model)),
        "noise": capture(model.action_noise, (object,)),
        "wrappers": [capture_attributes(each, (RunningMeanStd,)) for each in _wrappers(model.env)],
        "callbacks": {name: capture_callback(each) for name, each in _named(callbacks).items()},
        "log": [capture(each) for each in _pending(model.logger)],
        "random": random_states(model.action_space),
    }


def capture_callback(callback: BaseCallback) -> dict[str, Tree]:
    """Capture what a checkpoint keeps of a callback."""
    into = (BaseCallback, RunningMeanStd, Stateful, SyncContext)
    return capture_attributes(callback, into, OF_CALLS)


def _pending(log: Logger) -> list[Any]:
    """What is recorded and not dumped yet."""
    return [log.name_to_value, log.name_to_count, log.name_to_excluded]


def _not_state(model: BaseAlgorithm) -> set[str]:
    kwargs = [name for name in vars(model) if name.endswith("_kwargs")]
    return {*model._excluded_save_params(), *_OF_LEARN, *kwargs, "action_noise"}


def _wrappers(env: VecEnv | None) -> Iterator[VecEnvWrapper]:
    while isinstance(env, VecEnvWrapper):
        yield env
        env = env.venv


def _named(callbacks: Sequence[BaseCallback]) -> dict[str, BaseCallback]:
    """Callbacks by class and, among those of one class, by order."""
    named: dict[str, BaseCallback] = {}
    for callback in callbacks:
        kind = _kind(type(callback))
        number = sum(name.rpartition("#")[0] == kind for name in named)
        named[f"{kind}#{number}"] = callback
    return named


def _kind(of: type) -> str:
    return f"{of.__module__}.{of.__qualname__}"


@contextmanager
def _naming_damage(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever reading a damaged file comes to
        raise StateError(f"{folder} is damaged: {damage(error)}; {MAKES_WAY}") from error


class Checkpoint:
    """
    A checkpoint on disk; no pickle of it is read: the state is JSON and arrays, and of the weights
    tensors only are read.

    Attributes:
        owes_evaluation: whether one was interrupted, which is made when the training goes on.

    Args:
        folder: where it is.
        trust: leave it to PyTorch alone which tensors are read.

    Raises:
        StateError: it is damaged, or of a newer version.
    """

    def __init__(self, folder: Path, *, trust: bool = False) -> None:
        self.folder = folder
        self.trust = trust
        with _naming_damage(folder):
            self._tree: Mapping[str, Tree] = read_tree(folder, _STATE)
            version = self._tree["format"]
            known = bool(version == FORMAT)  # not of an array
        if not known:
            raise StateError(
                f"{folder} has format {version!r}, and this version of pyrl-sb3 reads {FORMAT}: "
                "update pyrl-sb3"
            )
        with _naming_damage(folder):
            self.moment = Moment(**self._tree["moment"])
            self.logs = LogMarks(
                sizes=restore(self._tree["log_sizes"], None),
                checksums=restore(self._tree.get("log_checksums", capture({})), None),
            )
            periodic = self._tree["callbacks"].get(f"{_kind(PeriodicEvaluation)}#0", {})
            self.owes_evaluation = bool(periodic.get("owed"))  # older ones know of none

    def check(self) -> None:
        """
        Read what `restore` reads, to the last bit, before anything is changed for it.

        Raises:
            StateError: it is damaged.
        """
        with _naming_damage(self.folder):
            check_archive(self.folder / MODEL)
            check_buffer(self.folder / BUFFER, self._tree["buffer"])

    def restore(self, model: OffPolicyAlgorithm, callbacks: Sequence[BaseCallback]) -> None:
        """
        Put everything back into a model, and callbacks, of the same build.

        Raises:
            StateError: it is damaged, or the model is of another build.
        """
        try:
            self._check_build(model)  # before anything is changed
            self._restore_weights(model)
            if wrong := optimizer_misfit(model):
                raise StateError(wrong)
            self._restore_parts(model, callbacks)
        except Exception as error:  # whatever damaged files come to
            self.check()
            # What is not damaged may not fit in any earlier one either.
            what = f"{self.folder} cannot be resumed from: {first_line(error)}"
            raise StateError(what) from error

    def _check_build(self, model: OffPolicyAlgorithm) -> None:
        """Tell what models are often made without; what else is told where it is put back."""
        then = self._tree["model"].get("n_envs")
        if type(then) is int and then != model.n_envs:
            raise StateError(
                f"it was taken with {counted(then, 'environment')}, and the model has "
                f"{model.n_envs}: make the model with as many as then"
            )
        wrappers, there = len(self._tree["wrappers"]), len([*_wrappers(model.env)])
        if wrappers != there:
            raise StateError(
                f"it was taken with {counted(wrappers, 'wrapper')} around the environments "
                f"(VecNormalize is one), and the model has {there}: make the model with those of "
                "then"
            )
        assert model.replay_buffer is not None
        # Of SB3's alone; ours take what another size has room for.
        buffer, size = self._tree["buffer"], model.replay_buffer.buffer_size
        rows = buffer.get("buffer_size") if isinstance(buffer, dict) else None
        if type(rows) is int and rows != size:
            raise StateError(
                f"its replay buffer is for {counted(rows, 'step')} of each environment, and the "
                f"model's for {size}: make the model with the buffer_size of then"
            )

    def _restore_weights(self, model: OffPolicyAlgorithm) -> None:
        path = self.folder / MODEL
        check_archive(path)
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".pth")]
        known = {f"{name}.pth" for name in (*model.get_parameters(), _VARIABLES)}
        if strange := {*members} - known:  # before they are read: each may take seconds
            raise StateError(f"{path} has {min(strange)}, which is no part of the model")
        states = {
            name: read_tensors(path, name, read_member(path, name), model.device, trust=self.trust)
            for name in members
        }
        variables = states.pop(f"{_VARIABLES}.pth", None) or {}
        parameters = {name.removesuffix(".pth"): state for name, state in states.items()}
        model.set_parameters(parameters, device=model.device)
        for name, value in variables.items():
            if value is not None:
                # In place: the gradient step may have its own view of it.
                recursive_getattr(model, name).data.copy_(value.data)

    def _restore_parts(self, model: OffPolicyAlgorithm, callbacks: Sequence[BaseCallback]) -> None:
        tree = self._tree
        assert model.replay_buffer is not None
        load_buffer(model.replay_buffer, self.folder / BUFFER, tree["buffer"])
        restore_attributes(tree["model"], model)
        restore(tree["noise"], model.action_noise)
        for part, wrapper in zip(tree["wrappers"], _wrappers(model.env), strict=True):
            restore_attributes(part, wrapper)
        for name, callback in _named(callbacks).items():
            restore_attributes(tree["callbacks"].get(name, {}), callback)
        for part, values in zip(tree["log"], _pending(model.logger), strict=True):
            restore(part, values)
        restore_random_states(tree["random"], model.action_space)

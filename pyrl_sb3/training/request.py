"""What a training run was asked for, and what became of it."""

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pyrl_sb3.errors import as_whole, short
from pyrl_sb3.training.errors import InputError

if TYPE_CHECKING:
    from pyrl_sb3.training.evaluation import Evaluation


def require_if_given(least: int, name: str, value: int | None) -> int | None:
    """Return None, or what `require_at_least` returns."""
    return None if value is None else require_at_least(least, name, value)


def require_at_least(least: int, name: str, value: int) -> int:
    """Return a whole number as `int`; raise InputError when it is none, or too small."""
    whole = _whole(name, value)
    if whole < least:
        raise InputError(f"{_option(name)} {whole}: must be at least {least}")
    return whole


def make_plain(request: Any) -> None:
    """
    Let attributes of a frozen dataclass be given as SB3 takes them, which `run.yml` cannot hold:
    paths as text, whole numbers as floats such as 1e5 or NumPy's, devices as PyTorch's, and one
    override by itself.

    Raises:
        InputError: a number is not whole, a flag neither true nor false, or something is no text
            or no path where it is to be.
    """
    for each in fields(request):
        name, value = each.name, getattr(request, each.name)
        kinds = get_args(each.type) or (each.type,)
        if value is None and type(None) in kinds:
            continue
        if int in kinds:
            value = _whole(name, value)
        elif bool in kinds:
            value = _flag(name, value)
        elif Path in kinds:
            value = _path(name, value)
        elif name == "device":
            value = str(value)
        elif name == "overrides":
            one = isinstance(value, str) or not isinstance(value, Iterable)
            value = tuple(_text(name, each) for each in ([value] if one else value))
        elif str in kinds:
            value = _text(name, value)
        object.__setattr__(request, name, value)


def _whole(name: str, value: Any) -> int:
    whole = as_whole(value)
    if whole is None:
        raise InputError(f"{_option(name)} {_said(value)}: must be a whole number")
    return whole


def _flag(name: str, value: object) -> bool:
    if value in (False, True):  # NumPy's too
        return bool(value)
    raise InputError(f"{_option(name)} {_said(value)}: must be true or false")


def _path(name: str, value: object) -> Path:
    if isinstance(value, (str, os.PathLike)):
        return Path(value)
    raise InputError(f"{name}={_said(value)}: must be a path")


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return str(value)  # without NumPy's class, which YAML does not know
    raise InputError(f"{name}={_said(value)}: must be text")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _said(value: object) -> str:
    return str(value) if isinstance(value, Real) else short(value)  # without NumPy's `np.int64(`


VEC_ENVS = ("dummy", "subproc")  # as in RL Zoo
MOST_SEED = 2**32 - 1  # that NumPy's global generator takes


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """
    What was asked for. None means: as the hyperparameters say, or the obvious default. Paths may be
    text, whole numbers floats such as 1e5 or NumPy's, and the device one of PyTorch's.

    Attributes:
        agent: a name in `AGENTS`.
        env_id: a Gymnasium id.
        timesteps: environment steps, counted over all environments.
        seed: of everything random; None draws one, which the log and `run.yml` tell.
        save: the folder that gets the run's folder; the agent's name by default.
        folder: of the run itself, in the place of the next one in `save`; made here, or empty.
        config: a file in the zoo's layout in place of the package's own.
        overrides: `key.path=value` each, in place of the config's values.
        noise: the config's `noise` in short, such as `pink_0.3`, or `none`; or a mapping in YAML.
        buffer: the config's `replay_buffer_class` in short.
        trained_agent: a model, or a run's folder, with whose agent the training begins.
        trust: run Python configs, classes that a config takes from any package, and what the files
            of the trained agent hold.
        n_envs: environments side by side.
        vec_env: `dummy`, these step one after another; `subproc`, at the same time, each in a
            process of its own.
        device: as in PyTorch, or `auto`.
        eval_freq: environment steps between evaluations; 0 evaluates at the end only.
        eval_episodes: episodes of each evaluation.
        threads: of PyTorch.
        stock: run SB3's algorithm instead of ours, with our policy and buffer.
        save_freq: environment steps between checkpoints; 0 takes one only when the run is stopped.
        keep_last: checkpoints that remain.
        exact: reset the environments at checkpoints, so that a run that is resumed does the same.

    Raises:
        InputError: a number is too small or not whole, the seed too large, or something is no text
            or no path where it is to be.
    """

    agent: str
    env_id: str
    timesteps: int | None = None
    seed: int | None = None
    save: Path | None = None
    folder: Path | None = None
    config: Path | None = None
    overrides: tuple[str, ...] = ()
    noise: str | None = None
    buffer: str | None = None
    trained_agent: Path | None = None
    trust: bool = False
    n_envs: int | None = None
    vec_env: str = VEC_ENVS[0]
    device: str = "auto"
    eval_freq: int | None = None
    eval_episodes: int = 10
    threads: int | None = None
    stock: bool = False
    save_freq: int | None = None
    keep_last: int = 2
    exact: bool = True

    def __post_init__(self) -> None:
        make_plain(self)
        for name in ("timesteps", "n_envs", "eval_episodes", "threads", "keep_last"):
            require_if_given(1, name, getattr(self, name))
        for name in ("seed", "eval_freq", "save_freq"):
            require_if_given(0, name, getattr(self, name))
        if self.seed is not None and self.seed > MOST_SEED:
            raise InputError(f"--seed {self.seed}: must be at most {MOST_SEED}")
        if self.vec_env not in VEC_ENVS:
            raise InputError(f"--vec-env {self.vec_env}: must be {' or '.join(VEC_ENVS)}")

    @property
    def processes(self) -> bool:
        """Whether each environment has a process of its own."""
        return self.vec_env == "subproc"


@dataclass(frozen=True, kw_only=True)
class CompleteRequest(TrainingRequest):
    """
    The same, with what was left open filled in.

    Raises:
        InputError: as `TrainingRequest`; or one of these is still open.
    """

    # With `field()`, since the default would be the parent's otherwise.
    timesteps: int = field()
    seed: int = field()
    n_envs: int = field()
    threads: int = field()
    save_freq: int = field()

    def __post_init__(self) -> None:
        for name in ("timesteps", "seed", "n_envs", "threads", "save_freq"):
            if getattr(self, name) is None:
                raise InputError(f"{name}: must be there")
        super().__post_init__()


def complete(request: TrainingRequest, **changes: Any) -> CompleteRequest:
    """Return a request with these changes, after which nothing is left open."""
    return CompleteRequest(**{**vars(request), **changes})


@dataclass(frozen=True)
class TrainingResult:
    """
    What became of a run.

    Attributes:
        env_id: where it learned.
        folder: everything it wrote.
        model: the trained model's file.
        timesteps: environment steps it took.
        evaluation: of the trained model; None when the run was stopped.
        stopped_by: the signal that ended it early.
    """

    env_id: str
    folder: Path
    model: Path
    timesteps: int
    evaluation: "Evaluation | None"
    stopped_by: signal.Signals | None

"""Where runs are written and found: `<agent>/<environment>_<n>/`, n counting from 1."""

import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pyrl_sb3.errors import did_you_mean_beside
from pyrl_sb3.training.command_line import going_on
from pyrl_sb3.training.errors import InputError, file_of

log = logging.getLogger("pyrl_sb3")

MODEL = "model.zip"
BEST_MODEL = "best_model.zip"
CHECKPOINTS = "checkpoints"
SEEDS = "seeds.yml"
LOCK = ".lock"  # where a folder cannot be locked itself


def _file_name(env_id: str) -> str:
    return env_id.replace("/", "-").replace(":", "-")


def _number(folder: Path) -> int:
    suffix = folder.name.rpartition("_")[2]
    return int(suffix) if suffix.isdecimal() else 0


def runs_of(root: Path, env_id: str) -> list[Path]:
    """Return the run folders of an environment, oldest first."""
    stem = _file_name(env_id)
    found = [path for path in root.glob(f"{stem}_*") if path.name == f"{stem}_{_number(path)}"]
    return sorted(found, key=_number)


def is_group(folder: Path) -> bool:
    """Tell whether a folder is that of several seeds, each with a run's folder in it."""
    return (folder / SEEDS).is_file()


def new_run_folder(root: Path, env_id: str) -> Path:
    """
    Make and return the next folder for a run of this environment; earlier runs stay untouched.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    with _writing_to(root):
        root.mkdir(parents=True, exist_ok=True)
        while True:
            earlier = runs_of(root, env_id)
            number = _number(earlier[-1]) + 1 if earlier else 1
            folder = root / f"{_file_name(env_id)}_{number}"
            with suppress(FileExistsError):  # another run has just taken the number
                folder.mkdir()
                return folder


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """
    Keep other processes from training in a run's folder, where the file system can.

    Raises:
        InputError: one does.
    """
    # Folders themselves cannot be opened on Windows.
    windows = sys.platform == "win32"
    path, flags = (folder / LOCK, os.O_RDWR | os.O_CREAT) if windows else (folder, os.O_RDONLY)
    descriptor = os.open(path, flags)
    try:
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError) as error:
            raise InputError(f"{folder} is in use: another process is training there") from error
        except OSError as error:  # as file systems of clusters may have it
            log.warning(
                "%s cannot be locked (%s): nothing keeps other processes from training there",
                folder,
                error.strerror,
            )
        yield
    finally:
        os.close(descriptor)


def empty(folder: Path) -> None:
    """
    Delete what is in a run's folder; raise InputError where a process is training there.

    The folder itself stays: another one in its place could be locked beside it.
    """
    with held(folder):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()


def _lock(descriptor: int) -> None:
    """Lock a file, or raise OSError; the lock goes with the process, however that ends."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def make_folder(path: Path, option: str = "--save") -> None:
    """Make a folder and those above it; raise InputError, naming the option, if that cannot be."""
    with _writing_to(path, option):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def _writing_to(root: Path, option: str = "--save") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write to {root}: {error.strerror}; name a folder with {option}"
        ) from error


def check_writable(folder: Path) -> None:
    """Raise InputError where a run that is there, its checkpoints or a group cannot be written."""
    for path, what in ((folder, "it"), (folder / CHECKPOINTS, folder)):
        if path.exists() and not os.access(path, os.W_OK):
            raise InputError(
                f"cannot write to {path}: a copy of {what} elsewhere can go on instead"
            )


def require_writable(path: Path, option: str, example: str, kinds: Sequence[str] = ()) -> None:
    """
    Raise InputError where a file cannot be written, before there is work for it.

    Args:
        path: the file.
        option: that names it.
        example: a name for it.
        kinds: endings that it may have; any where there are none.
    """
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder; name a file, such as {path / example}")
    if kinds and path.suffix not in kinds:
        *others, last = kinds
        listed = f"{', '.join(others)} or {last}" if others else last
        likely = path.with_suffix(kinds[0])
        raise InputError(f"{option} {path}: must end in {listed}, such as {likely}")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"{option} {path}: cannot write to {path.parent}")


def statistics_file(model: Path) -> Path:
    """Return where a model's observation statistics are kept: beside it."""
    return model.with_name(f"{model.stem.replace('model', 'vecnormalize')}.pkl")


def find_statistics(model: Path) -> Path:
    """Return where a model's statistics are, or would be: beside it, or where RL Zoo has them."""
    beside = statistics_file(model)
    zoo = None if beside.is_file() else zoo_settings(model.parent)
    return zoo / "vecnormalize.pkl" if zoo else beside


def zoo_settings(run: Path) -> Path | None:
    """
    Return the folder in that of a run of RL Zoo where its settings and statistics are.

    The zoo's runs are `ENV_n/`, with the model `ENV.zip` and the folder `ENV/`.
    """
    for config in sorted(run.glob("*/config.yml")):
        name = config.parent.name
        numbered = re.match(re.escape(name) + r"_\d+(_|$)", run.absolute().name)  # or with a uuid
        if numbered or (run / f"{name}.zip").is_file():
            return config.parent
    return None


def model_in(run: Path) -> Path | None:
    """Return the model of a run, which may be one of RL Zoo's; None where it has none."""
    if (run / MODEL).is_file():
        return run / MODEL
    zoo = zoo_settings(run)
    return run / f"{zoo.name}.zip" if zoo and (run / f"{zoo.name}.zip").is_file() else None


def find_model(path: Path, env_id: str, agent: str | None) -> Path:
    """
    Return the model file meant by a path.

    Args:
        path: a model file, a run folder, or a folder of runs (then the latest of `env_id`); runs
            may be RL Zoo's.
        env_id: the environment it is wanted for.
        agent: for the advice when there is none; None gives none.

    Raises:
        InputError: nothing there.
    """
    path = with_zip(path)
    if path.is_file():
        return path
    runs = [path, *reversed(runs_of(path, env_id))]
    for run in runs:
        if model := model_in(run):
            return model
    if path.is_dir():
        raise InputError(f"no model of {env_id} in {path}{_instead(path, runs, env_id, agent)}")
    hint = did_you_mean_beside(path) or _way_to_one([], env_id, agent)
    raise InputError(f"no model at {path}{hint}")


def _instead(path: Path, runs: Sequence[Path], env_id: str, agent: str | None) -> str:
    """What else is in a folder whose runs have no model, or one level deeper, or the advice."""
    deeper = [run for place in path.glob("*") for run in reversed(runs_of(place, env_id))]
    trained = [run for run in deeper if model_in(run) or any(run.glob(f"seed_*/{MODEL}"))]
    own = path / agent if agent else None
    if any(run.parent == own for run in trained):
        return f"; did you mean {own}?"
    others = sorted({run.parent.name for run in path.glob(f"*/{MODEL}")})
    others += sorted(file.name for file in path.glob("*.zip"))[:5]
    others += sorted(str(run.relative_to(path)) for run in trained)[:5]
    there = f"; there are {', '.join(others)}" if others else ""
    runs = [*runs, *(run for run in deeper if run.parent == own)]
    return f"{there}{_way_to_one(runs, env_id, agent)}"


def _way_to_one(runs: Sequence[Path], env_id: str, agent: str | None) -> str:
    """The advice where none of the runs has a model."""
    if agent is None:
        return ""
    if killed := next((run for run in runs if any(run.glob(f"{CHECKPOINTS}/step_*"))), None):
        return f"; `pyrl {going_on(agent, killed, trust=False)}` goes on to one"
    return f"; `pyrl {agent}-train {env_id}` makes one"


def with_zip(path: Path) -> Path:
    """Return a model's path with the `.zip` that has been left out, if it has."""
    zipped = Path(f"{path}.zip")  # `.` has no name
    return zipped if not path.exists() and zipped.is_file() else path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """
    Write a file so that it is there whole or not at all, even when the machine goes down.

    `write` gets the path of a temporary file, which has the same ending.
    """
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        temporary.unlink(missing_ok=True)  # in a stranger's folder it may be a link to elsewhere
        write(temporary)
        sync_file(temporary)
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):  # where the first one could not be deleted either
            temporary.unlink(missing_ok=True)
        name_file(error, path, temporary)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file, as `write_whole` does."""
    write_whole(path, lambda part: part.write_text(text, "utf-8"))


def copy(source: Path, path: Path) -> None:
    """Copy a file, as `write_whole` writes one."""
    write_whole(path, lambda part: shutil.copyfile(source, part))


def name_file(error: BaseException, path: Path, temporary: Path) -> None:
    """
    Have an error, if it is one of the system, name the file that was to be written.

    Writing to an open file names none, and the temporary file nobody knows.
    """
    if not isinstance(error, OSError):
        return
    if error.filename is None and error.errno is not None:
        error.filename = str(path)
    elif str(temporary) in file_of(error):
        error.filename = file_of(error).replace(str(temporary), str(path))


def sync_file(path: Path) -> None:
    """Write a file's contents through to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())

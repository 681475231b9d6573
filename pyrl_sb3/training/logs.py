"""The files a run logs to, continued where a checkpoint left them."""

import json
import logging
import os
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.logger import (
    CSVOutputFormat,
    KVWriter,
    Logger,
    TensorBoardOutputFormat,
    configure,
)

from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.evaluation import Evaluation
from pyrl_sb3.training.folders import BEST_MODEL, copy, statistics_file, sync_file, write_whole
from pyrl_sb3.training.monitors import monitor_files
from pyrl_sb3.training.state import MAKES_WAY, StateError
from pyrl_sb3.training.untrusted import read_arrays

log = logging.getLogger("pyrl_sb3")

PROGRESS = "progress.csv"
EVALUATIONS = "evaluations.npz"
_EVENTS = "events.out.tfevents."
_KEPT = "run"  # a folder in checkpoints, for these files
_FILES = (PROGRESS, EVALUATIONS, BEST_MODEL, statistics_file(Path(BEST_MODEL)).name)


@dataclass(frozen=True, kw_only=True)
class LogMarks:
    """
    What the logs of a run were when a checkpoint was taken.

    Attributes:
        sizes: of the files that are only added to, bytes by name.
        checksums: CRC-32 by name, of the others, which are kept with the checkpoint.

    Raises:
        ValueError: they are something else.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    checksums: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for each in (self.sizes, self.checksums):
            if not (
                isinstance(each, Mapping)
                and all(isinstance(name, str) for name in each)
                and all(isinstance(value, int) and value >= 0 for value in each.values())
            ):
                raise ValueError("it does not say what the logs were")


def evaluation_tables(path: Path) -> dict[str, npt.NDArray[Any]]:
    """
    Read a file of evaluations, in the format of SB3's EvalCallback.

    Returns:
        `timesteps`, `(evaluations,)`, and `results`, `(evaluations, episodes)`, with whatever else
        there is of that shape: `ep_lengths`, `successes`. There is at least one of each.

    Raises:
        InputError: it is missing, damaged, or holds something else.
    """
    saved = read_arrays(path)
    steps, names = saved.get("timesteps"), ("results", "ep_lengths", "successes")
    if (
        steps is None
        or steps.ndim != 1
        or steps.dtype.kind not in "iuf"
        or not np.isfinite(steps).all()
    ):
        raise InputError(f"{path} holds no evaluations: its timesteps are no row of numbers")
    tables = {name: saved[name] for name in names if name in saved}
    if "results" not in tables or any(
        table.ndim != 2
        or len(table) != len(steps)
        or not table.size
        or table.dtype.kind not in "biuf"
        for table in tables.values()
    ):
        raise InputError(f"{path} holds no evaluations: timesteps and results do not fit together")
    return {"timesteps": steps, **tables}


def add_evaluation(path: Path, timesteps: int, evaluation: Evaluation) -> None:
    """Add an evaluation to a file in the format of SB3's EvalCallback."""
    new = {
        "timesteps": np.array([timesteps]),
        "results": evaluation.returns[None],
        "ep_lengths": evaluation.lengths[None],
    }
    if evaluation.successes is not None:
        new["successes"] = evaluation.successes[None]
    if path.is_file():
        old = evaluation_tables(path)
        before = old["timesteps"] < timesteps
        # Evaluations of different numbers of episodes fit no table together: the new one stays.
        if old["results"].shape[1:] == new["results"].shape[1:]:
            for some in (old, new) if "successes" in {*old, *new} else ():  # unknown in one
                some.setdefault("successes", np.full(some["results"].shape, np.nan))
            new = {
                name: np.concatenate((old[name][before], each))
                for name, each in new.items()
                if name in old and old[name].shape[1:] == each.shape[1:]
            }
    write_whole(path, lambda part: np.savez(part, **new))  # type: ignore[arg-type]  # numpy's stub takes it for allow_pickle


def last_evaluated(run: Path) -> int:
    """Return the steps after which a run was evaluated last; 0 where that cannot be read."""
    with suppress(InputError):
        return int(evaluation_tables(run / EVALUATIONS)["timesteps"].max())
    return 0


def keep_evaluations(run: Path, checkpoint: Path) -> None:
    """Keep the evaluations of a run with a checkpoint that was taken before the last of them."""
    if (run / EVALUATIONS).is_file():
        copy(run / EVALUATIONS, checkpoint / _KEPT / EVALUATIONS)


def why_no_tensorboard(run: Path) -> str | None:
    """Return why TensorBoard's file is not written to a run's folder; None where it is."""
    if not find_spec("tensorboard"):
        return "pip install 'pyrl-sb3[tensorboard]' brings it"
    path = str(run.absolute())
    if os.fsencode(path) != path.encode(errors="replace"):  # as which it would open its file
        return f"it takes no {path!r}, which is not UTF-8"
    return None


def new_logger(run: Path) -> Logger:
    """Return a logger for a new run."""
    return configure(str(run), ["csv"] if why_no_tensorboard(run) else ["csv", "tensorboard"])


def keep_logs(run: Path, checkpoint: Path) -> LogMarks:
    """Keep what a run has logged with a checkpoint; what is only added to stays where it is."""
    for file in monitor_files(run):
        sync_file(file)  # a machine that goes down leaves no less than the checkpoint counts on
    kept = checkpoint / _KEPT
    kept.mkdir()
    # Copied, not linked: whoever writes over the run's best model must not damage checkpoints.
    for name in _FILES:
        if (run / name).is_file():
            copy(run / name, kept / name)
    return LogMarks(
        sizes={file.name: file.stat().st_size for file in monitor_files(run)},
        checksums={file.name: zlib.crc32(file.read_bytes()) for file in kept.iterdir()},
    )


def put_back_logs(run: Path, checkpoint: Path, marks: LogMarks) -> None:
    """
    Make a run's logs what they were at a checkpoint; what was logged later is dropped.

    Raises:
        StateError: the checkpoint has lost what it kept of them.
        InputError: a file that is only added to is not what it was, or is a link. Nothing has been
            changed in either case.
    """
    kept = checkpoint / _KEPT
    if problem := _problem(kept, marks.checksums):
        raise StateError(f"{checkpoint} is damaged: {problem}; {MAKES_WAY}")
    for file in monitor_files(run):
        if file.is_symlink():  # in a stranger's folder it may lead to any file of the user
            raise InputError(f"{file} is a link, which no run writes to; put a file in its place")
    for name, size in marks.sizes.items():
        _check_monitor(run / name, size)
    for name in _FILES:
        if (kept / name).is_file():
            copy(kept / name, run / name)
        else:
            (run / name).unlink(missing_ok=True)
    for file in monitor_files(run):
        size = marks.sizes.get(file.name, 0)
        if file.stat().st_size > size:
            os.truncate(file, size)


def _problem(kept: Path, checksums: Mapping[str, int]) -> str | None:
    """What is wrong with the logs that a checkpoint keeps, or None."""
    if not kept.is_dir():
        return f"it has no folder {_KEPT}, with logs"
    for name in _FILES:
        file = kept / name
        if name in checksums and not file.is_file():
            return f"it has lost {_KEPT}/{name}"
        if name == EVALUATIONS and file.is_file():  # of which a later one may have been added
            try:
                evaluation_tables(file)
            except InputError as error:
                return str(error)
        elif name in checksums and zlib.crc32(file.read_bytes()) != checksums[name]:
            return f"{_KEPT}/{name} in it is not as it was written"
        elif name == PROGRESS and file.is_file():
            try:
                file.read_text(encoding="utf-8")  # as it is read where it is continued
            except UnicodeDecodeError:
                return f"{_KEPT}/{name} in it is no text in UTF-8"
    return None


def _check_monitor(file: Path, size: int) -> None:
    if not file.is_file():
        log.warning("%s is gone: another is begun, on a clock of its own", file)
        return
    with file.open("rb") as content:
        header = content.readline()
        content.seek(max(size - 1, 0))
        whole = content.read(1) == b"\n"  # as each row ends
    try:
        json.loads(header.removeprefix(b"#"))["t_start"]
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise InputError(
            f"{file} is damaged: not what it was at the checkpoint; deleting it begins another"
        )
    if not os.access(file, os.W_OK):
        raise InputError(f"{file} cannot be written to, and --resume adds to it")


def continued_logger(run: Path, timesteps: int) -> Logger:
    """
    Return a logger that adds to a run's logs, which are as they were at a checkpoint after so many
    steps. TensorBoard then shows nothing that was logged later before.
    """
    formats: list[KVWriter] = [_continued_csv(run / PROGRESS)]
    if not why_no_tensorboard(run):
        formats.append(_continued_tensorboard(run, timesteps))
    return Logger(str(run), formats)


def _continued_csv(path: Path) -> CSVOutputFormat:
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    # SB3's writer empties the file it opens, so it gets another one, which then takes its place.
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)  # in a stranger's folder it may be a link to elsewhere
    writer = CSVOutputFormat(str(part))
    writer.file.write(text)
    writer.file.flush()
    writer.keys = text.partition("\n")[0].split(writer.separator) if text else []
    part.replace(path)
    return writer


def _continued_tensorboard(run: Path, timesteps: int) -> TensorBoardOutputFormat:
    from tensorboard.compat.proto.event_pb2 import (  # type: ignore[import-untyped]
        Event,
        SessionLog,
    )

    writer = _newest_tensorboard(run)
    # What SummaryWriter(purge_step=) does; SB3 does not pass that on.
    start = Event(step=timesteps + 1, session_log=SessionLog(status=SessionLog.START))
    writer.writer._get_file_writer().add_event(start)  # type: ignore[no-untyped-call]
    return writer


def _newest_tensorboard(run: Path) -> TensorBoardOutputFormat:
    # Files are read by name, and the names of those of one second are in no certain order.
    while True:
        before = {*run.glob(f"{_EVENTS}*")}
        writer = TensorBoardOutputFormat(str(run))
        (file,) = {*run.glob(f"{_EVENTS}*")} - before
        second, *_ = file.name.removeprefix(_EVENTS).split(".")
        if file == max(run.glob(f"{_EVENTS}{second}.*")):
            return writer
        writer.close()
        file.unlink()
        time.sleep(1 - time.time() % 1)

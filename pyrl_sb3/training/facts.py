"""What a run was: `run.yml` and `config.yml` in its folder."""

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pyrl_sb3 import __version__
from pyrl_sb3.config import Experiment
from pyrl_sb3.config.checks import problem
from pyrl_sb3.config.documents import MOST_WRITTEN, parse_yaml, read_document, write_yaml
from pyrl_sb3.config.entries import choose_entry
from pyrl_sb3.config.scripts import is_script
from pyrl_sb3.devices import is_device
from pyrl_sb3.errors import counted, did_you_mean_beside, short
from pyrl_sb3.plugins.records import Record
from pyrl_sb3.training.command_line import quoted
from pyrl_sb3.training.errors import InputError, damage
from pyrl_sb3.training.folders import SEEDS, write_text
from pyrl_sb3.training.hyperparams import CONFIG
from pyrl_sb3.training.python_configs import digest_of
from pyrl_sb3.training.request import CompleteRequest, TrainingRequest, complete
from pyrl_sb3.training.versions import versions
from pyrl_sb3.training.zoo_runs import refuse_zoo_runs

FACTS = "run.yml"
_MOST_RESUMPTIONS = 200  # of which it tells: reading more takes seconds, and far more is refused


def write_facts(
    folder: Path,
    request: CompleteRequest,
    experiment: Experiment,
    uses: Sequence[Record],
    notes: Mapping[str, Any],
) -> None:
    """
    Write what a run is, before it begins.

    `uses` are its components, by their names in the registry and with their versions; `notes` what
    else there is to say.
    """
    asked = {**request_written(request), "save": str(folder.parent)}
    lacking = {key: short(first) for key, (first, *_) in experiment.unwritable().items()}
    objects: dict[str, Any] = {"unwritable": lacking} if lacking else {}
    if request.config and is_script(request.config):  # by which it goes on, or by what lies beside
        asked["config"] = str(request.config.absolute())
        objects["config_sha256"] = digest_of(request.config)
    facts = {
        "pyrl_sb3": __version__,
        **_circumstances(uses),
        "request": asked,
        "source": experiment.source,
        "hyperparameters": experiment.as_plain(),
        **objects,
        "components": list(uses),
        **notes,
        "resumed": [],
    }
    write_text(folder / FACTS, write_yaml(facts))
    write_text(folder / CONFIG, experiment.as_yaml())


def request_written(request: TrainingRequest) -> dict[str, Any]:
    """Return what was asked for as YAML has it; the run's folder is left out, it may be moved."""
    return {name: _written(value) for name, value in vars(request).items() if name != "folder"}


def request_from(written: Mapping[str, Any]) -> TrainingRequest:
    """Return what was asked for, from what `request_written` returned; ValueError if it did not."""
    return TrainingRequest(**{name: _read(name, value) for name, value in written.items()})


def completed(folder: Path, request: TrainingRequest, **changes: Any) -> CompleteRequest:
    """Return a run's request with changes; InputError, naming its file, if it is not complete."""
    try:
        return complete(request, **changes)
    except InputError as error:
        raise InputError(f"{folder / FACTS} cannot be read as a run's: {error}") from error


def read_written(path: Path) -> Any:
    """
    Read what `write_yaml`, or in older versions PyYAML, wrote; it may be a stranger's.

    Raises:
        ValueError: it is too large, or no file.
    """
    if is_device(path):
        raise ValueError("it is a device or a pipe")
    with path.open("rb") as file:
        content = file.read(MOST_WRITTEN + 1)
    if len(content) > MOST_WRITTEN:
        raise ValueError(f"larger than {MOST_WRITTEN // 1024} kB")
    return parse_yaml(content.decode("utf-8"), path.name, exponents=False).data


def _written(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _circumstances(uses: Sequence[Record]) -> dict[str, Any]:
    return {
        "command": list(sys.argv),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(uses),
        "git": git_state(Path.cwd()),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return commit and cleanliness of the repository around a folder; None outside of one."""
    git = shutil.which("git")
    if git is None:
        return None

    def ask(*arguments: str) -> str | None:
        done = subprocess.run(
            [git, "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "changed": bool(ask("status", "--porcelain", "-uno"))}


@dataclasses.dataclass(frozen=True)
class Facts:
    """
    What `run.yml` says.

    Attributes:
        request: as it was completed when the run began.
        timesteps: that the run is to have in the end; resuming may have raised them.
        components: the components, see `write_facts`.
        versions: of the packages then.
        sync: the strategy that synchronises it with other copies; None where it learns alone.
        hyperparameters: as they were written to its config; None in older ones.
        ended: the steps after which a callback of its own ended it; None where none did.
        unwritable: by key, in words, what that config could not hold.
        config_sha256: of a config in Python; empty where there is none, or was no such thing yet.
    """

    request: TrainingRequest
    timesteps: int
    components: list[Record]
    versions: dict[str, str]
    sync: str | None = None
    hyperparameters: Mapping[str, Any] | None = None
    ended: int | None = None
    unwritable: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    config_sha256: str = ""

    def why_finished(self, done: int, wanted: int) -> str | None:
        """Tell why a run of so many wanted steps is finished after `done`; None where it is not."""
        if done >= wanted:
            return f"it has had all of its {counted(wanted, 'step')}"
        if done == self.ended and wanted <= self.timesteps:
            return f"a callback ended it after {done} of its {counted(self.timesteps, 'step')}"
        return None


def check_run(folder: Path) -> None:
    """Raise InputError, naming what may be meant, where a folder is no run's."""
    if (folder / FACTS).is_file():
        return
    around = [parent for parent in folder.absolute().parents[:2] if (parent / FACTS).is_file()]
    if around:
        raise InputError(f"{folder} is a part of a run; did you mean {_short(around[0])}?")
    if not folder.is_dir():
        raise InputError(f"no run at {folder}{did_you_mean_beside(folder)}")
    refuse_zoo_runs(folder)
    within = _within(folder, "*") or _within(folder, "*/*")
    more = ", ..." if len(within) > 5 else ""
    there = f"; in it are {', '.join(within[:5])}{more}" if within else ""
    raise InputError(f"{folder} is no run's folder: it has no {FACTS}{there}")


def _within(folder: Path, level: str) -> list[str]:
    """The runs, and groups of them, that are so deep in a folder."""
    found = {file.parent for name in (FACTS, SEEDS) for file in folder.glob(f"{level}/{name}")}
    return sorted(str(run.relative_to(folder)) for run in found)


def _short(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def read_facts(folder: Path) -> Facts:
    """
    Read what a run was.

    Raises:
        InputError: it is not there, or not as it was written.
    """
    path = folder / FACTS
    try:
        facts = read_written(path)
        if not isinstance(facts["resumed"], list):
            raise ValueError("resumed: must be a list")
        for each in facts["components"]:
            if not isinstance(each["kind"], str) or not {"name", "params"} <= each.keys():
                raise ValueError("components: one has no kind, name or params")
        request = request_from(facts["request"])
        config = facts.get("hyperparameters")
        totals = [request.timesteps, *(each["timesteps"] for each in facts["resumed"])]
        return Facts(
            request=request,
            timesteps=int(totals[-1]),
            components=list(facts["components"]),
            versions=dict(facts["versions"]),
            sync=facts.get("sync", {}).get("name"),
            hyperparameters=None if config is None else dict(config),
            ended=facts.get("ended"),
            unwritable=dict(facts.get("unwritable", {})),
            config_sha256=str(facts.get("config_sha256", "")),
        )
    except Exception as error:  # whatever reading a damaged file comes to
        raise InputError(f"{path} cannot be read as a run's: {damage(error)}") from error


def _read(name: str, value: Any) -> Any:
    """A field of `TrainingRequest`, from what YAML has of it."""
    if name not in TrainingRequest.__annotations__:
        raise ValueError(f"{name}: no option of this version of pyrl-sb3")
    hint = TrainingRequest.__annotations__[name]
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        value = tuple(value)
    elif isinstance(value, str) and "Path" in str(hint):
        value = Path(value)
    if wrong := problem(name, value, hint):
        raise ValueError(f"{name}: {wrong}")
    return value


def add_resumption(folder: Path, after: int, timesteps: int) -> None:
    """
    Note in `run.yml` that a run goes on after so many environment steps, to `timesteps` in all.

    Of a great many times the last ones are told.
    """
    path = folder / FACTS
    facts = read_written(path)
    now = _circumstances(facts["components"])
    earlier = facts["resumed"][1 - _MOST_RESUMPTIONS :]
    facts["resumed"] = [*earlier, {"after": after, "timesteps": timesteps, **now}]
    facts.pop("ended", None)
    write_text(path, write_yaml(facts))


def add_end(folder: Path, after: int) -> None:
    """Note in `run.yml` that a callback of a run's own ended it after so many steps."""
    path = folder / FACTS
    write_text(path, write_yaml({**read_written(path), "ended": after}))


def refuse_edited(folder: Path, facts: Facts) -> None:
    """
    Check that a run's config is what it was begun with: part of it is in the checkpoints as well.

    Raises:
        InputError: naming the first value that is another.
        ConfigError: the config cannot be read.
    """
    path, was = folder / CONFIG, facts.hyperparameters
    if was is None:
        return
    _, now = choose_entry(read_document(path), facts.request.env_id)
    for key in [*was, *now]:
        if key not in now or key not in was or now[key] != was[key]:
            there, then = (short(each[key]) if key in each else "not there" for each in (now, was))
            raise InputError(
                f"{path}: {key} is {there}, and the run was begun with {then}, which --resume goes "
                f"on with; put it back, or begin a new run: pyrl {facts.request.agent}-train "
                f"{facts.request.env_id} --config {quoted(path)}"
            )

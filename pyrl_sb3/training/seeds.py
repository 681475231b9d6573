"""
Several seeds of one experiment: a folder with one run for each, and what they have in common.

`<root>/<environment>_<n>/` holds `seeds.yml`, the config that was given as `seeds_config.yml`, a
run's folder `seed_<s>/` for each seed, and what each printed in `seed_<s>.log`.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyrl_sb3.config.documents import write_yaml
from pyrl_sb3.config.scripts import is_script
from pyrl_sb3.errors import short
from pyrl_sb3.plugins import UnknownComponentError, get_plugin_manager
from pyrl_sb3.plugins.records import Record
from pyrl_sb3.training.engines import PROCESSES
from pyrl_sb3.training.errors import InputError, damage
from pyrl_sb3.training.facts import read_written, request_from, request_written
from pyrl_sb3.training.folders import (
    SEEDS,
    check_writable,
    copy,
    is_group,
    new_run_folder,
    write_text,
)
from pyrl_sb3.training.python_configs import digest_of, found_again
from pyrl_sb3.training.request import MOST_SEED, TrainingRequest, require_if_given

_MOST_SEEDS = 1000
_MOST_DIGITS = 100
_NAMED = 10  # seeds at most, in one line


def parse_seeds(text: str, first: int | None = None) -> tuple[int, ...]:
    """
    Return the seeds that `--seeds` means: `10` is ten of them, `3,7,11` are these three.

    Args:
        text: a number of seeds, or the seeds themselves.
        first: that a number of seeds counts from; 0 by default.

    Raises:
        InputError: neither, a seed twice or that cannot be, or `first` with seeds that are named.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise InputError(f"--seeds {text}: write how many, such as 10, or which, such as 3,7,11")
    if max(map(len, words)) > _MOST_DIGITS:  # Python itself converts no more than some thousands
        raise InputError(f"--seeds {short(text)}: seeds must be at most {MOST_SEED}")
    numbers = [int(word) for word in words]
    if len(words) == 1:
        if not 1 <= numbers[0] <= _MOST_SEEDS:
            raise InputError(f"--seeds {text}: must be at least 1, and at most {_MOST_SEEDS}")
        require_if_given(0, "seed", first)
        most = MOST_SEED + 1 - numbers[0]
        if first is not None and first > most:
            raise InputError(f"--seed {first}: must be at most {most} with --seeds {text}")
        return tuple(range(first or 0, (first or 0) + numbers[0]))
    if first is not None:
        raise InputError(f"--seed {first} and --seeds {text} both say which; leave out --seed")
    twice = [seed for seed in numbers if numbers.count(seed) > 1]
    if twice:
        raise InputError(f"--seeds {text}: {twice[0]} is there twice")
    if max(numbers) > MOST_SEED:
        raise InputError(f"--seeds {text}: {max(numbers)} must be at most {MOST_SEED}")
    return tuple(numbers)


@dataclass(frozen=True, kw_only=True)
class SeedGroup:
    """
    Several seeds of one experiment; what `seeds.yml` says.

    Attributes:
        folder: of the group.
        seeds: of its runs.
        request: that all have in common; its seed, folder and place mean nothing.
        engine: what ran them.
        sync: the strategy that synchronises them; None for independent ones.
        couples_seeds: whether they are one sample, since they learn from each other.
        jobs: processes at a time.
        trusted: whether its file says that code of others was trusted, which allows nothing.
        components: the engine and the strategy as the registry has them, with their versions; what
            `seeds.yml` said of them.
        config_sha256: of a config in Python when the group began; empty where there is none.
        extra: what else `seeds.yml` is to say, or says.
    """

    folder: Path
    seeds: tuple[int, ...]
    request: TrainingRequest
    engine: str = PROCESSES
    sync: str | None = None
    couples_seeds: bool = False
    jobs: int = 1
    trusted: bool = False
    components: Sequence[Record] = ()
    config_sha256: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def refuse_others(self, seeds: str | None, first: int | None) -> None:
        """
        Check that these, as `parse_seeds` takes them, are its seeds, if any are given.

        Raises:
            InputError: they are not.
        """
        if first is None and seeds is None:
            return
        if seeds is not None and set(parse_seeds(seeds, first)) == set(self.seeds):
            return
        option = f"--seed {first}" if seeds is None else f"--seeds {seeds}"
        there = ", ".join(map(str, self.seeds[:_NAMED]))
        there += ", ..." if len(self.seeds) > _NAMED else ""
        raise InputError(
            f"{option}: {self.folder} has the seeds {there}, and --resume goes on with all of "
            "them; leave it out"
        )

    def run(self, seed: int) -> Path:
        """Return the folder of a seed's run."""
        return self.folder / f"seed_{seed}"

    def log(self, seed: int) -> Path:
        """Return the file with what the process of a seed printed."""
        return self.folder / f"seed_{seed}.log"

    @property
    def needs_trust(self) -> bool:
        """Whether its command line had code of others run, which its file does not allow."""
        named = any(":" in name for name in (self.engine, self.sync or ""))
        return self.request.trust or named

    @property
    def config(self) -> Path:
        """The config that was given as it was when the group began, for seeds that begin later."""
        return (self.folder / "seeds_config.yml").absolute()

    def request_of(self, seed: int) -> TrainingRequest:
        """Return what one seed is to do, in its folder."""
        config = self.config if self.config.is_file() else self.request.config
        if config is not None and is_script(config):
            config = found_again(config, self.config_sha256) or config
        return dataclasses.replace(
            self.request, seed=seed, folder=self.run(seed), save=None, config=config
        )


def refuse_changed_config(request: TrainingRequest) -> None:
    """
    Check that one of several seeds, in its folder, begins with the config in Python of the others.

    Raises:
        InputError: the file has changed since they began.
    """
    config = request.config
    if request.folder is None or config is None or not is_group(request.folder.parent):
        return
    begun = read_group(request.folder.parent).config_sha256
    if begun and config.is_file() and digest_of(config) != begun:
        raise InputError(
            f"{config} is not as it was when {request.folder.parent} began, whose seeds learn by "
            "the same; put it back, or begin anew"
        )


def new_group(root: Path, group: SeedGroup) -> SeedGroup:
    """
    Return a group in the next folder of `root`, made for it; earlier ones stay untouched.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    group = dataclasses.replace(group, folder=new_run_folder(root, group.request.env_id))
    write_group(group)
    return group


def write_group(group: SeedGroup) -> None:
    """
    Write `seeds.yml`, whole or not at all, and before it the config, unless it is there.

    Raises:
        InputError: the folder cannot be written to.
    """
    check_writable(group.folder)
    request, digest = group.request, group.config_sha256
    given = request.config
    if given and given.is_file():
        if is_script(given):  # read where it is: it may look for other files beside it
            request = dataclasses.replace(request, config=given.absolute())
            digest = digest or digest_of(given)
        elif not group.config.exists():
            copy(given, group.config)
    trust = request.trust or group.trusted
    facts = {
        "seeds": list(group.seeds),
        "engine": group.engine,
        "sync": group.sync,
        "couples_seeds": group.couples_seeds,
        "jobs": group.jobs,
        "command": list(sys.argv),
        "components": _components(group),
        **({"config_sha256": digest} if digest else {}),
        **group.extra,
        "request": request_written(dataclasses.replace(request, trust=trust)),
    }
    write_text(group.folder / SEEDS, write_yaml(facts))


def _components(group: SeedGroup) -> list[Record]:
    """The engine and the strategy, where they are of the registry: PyTorch's agent is not."""
    manager, found = get_plugin_manager(), []
    with suppress(UnknownComponentError):
        found.append(manager.find("engine", group.engine).record())
    if group.sync:
        with suppress(UnknownComponentError):
            params = group.extra.get("sync_params")
            found.append(manager.find("sync-callback", group.sync).record(params))
    return found


def read_group(folder: Path) -> SeedGroup:
    """
    Read what a group of seeds is; whether to run code that it names, only a command line says.

    Raises:
        InputError: it is not there, or not as it was written.
    """
    path = folder / SEEDS
    try:
        facts = read_written(path)
        sync = facts.pop("sync")
        seeds = tuple(int(seed) for seed in facts.pop("seeds"))
        if not seeds:
            raise ValueError("no seeds")
        request = request_from(facts.pop("request"))
        return SeedGroup(
            folder=folder,
            seeds=seeds,
            request=dataclasses.replace(request, trust=False),
            trusted=request.trust,
            engine=str(facts.pop("engine")),
            sync=None if sync is None else str(sync),
            couples_seeds=bool(facts.pop("couples_seeds")),
            jobs=int(facts.pop("jobs", 1)),
            components=list(facts.pop("components", ())),
            config_sha256=str(facts.pop("config_sha256", "")),
            extra={key: value for key, value in facts.items() if key != "command"},
        )
    except Exception as error:  # whatever reading a damaged file comes to
        raise InputError(f"{path} cannot be read as a group's: {damage(error)}") from error

"""From a config file to an experiment, with all that is wrong in it reported at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

from pyrl_sb3.config import zoo
from pyrl_sb3.config.algorithms import algorithm_spec
from pyrl_sb3.config.components import Reference, registered
from pyrl_sb3.config.documents import read_document, write_yaml
from pyrl_sb3.config.entries import choose_entry
from pyrl_sb3.config.errors import ConfigError
from pyrl_sb3.config.overrides import Override, parse_override
from pyrl_sb3.config.reader import EntryReader
from pyrl_sb3.plugins import get_plugin_manager

_PLAIN = (bool, int, float, str, NoneType)
_USUAL_POLICY = ("policy", "MlpPolicy")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """
    One entry of a config file.

    :param algorithm: ``sac``, or ``her-sac`` with hindsight experience replay.
    :param source: Where it was read.
    :param given: The entry with the overrides, as it was written; for printing and saving.
    :param arguments: Keyword arguments of the algorithm; no policy, noise, environment.
    :param policy: A name that the algorithm knows, such as ``MlpPolicy``, or a class.
    :param n_timesteps: Environment steps; None when the entry leaves them to the command line.
    :param n_envs: Environments side by side.
    :param normalize: Keyword arguments of ``VecNormalize``; None for no normalisation.
    :param frame_stack: Observations stacked into one; None for no stacking.
    :param env_kwargs: Arguments of the environments, in training and in evaluation.
    :param monitor_kwargs: Arguments of ``Monitor``.
    :param env_wrapper: Wrappers of each environment, the innermost first.
    :param vec_env_wrapper: Wrappers of the vectorised environment, the innermost first.
    :param callback: Callbacks.
    :param noise_type: The zoo's ``normal`` or ``ornstein-uhlenbeck``; None for no such noise.
    :param noise_std: Its parameter sigma, on actions scaled to [-1, 1].
    :param noise: A noise process of the registry, in place of the zoo's.
    :param sync: How copies are synchronised: `name`, and if given `every` and `params`.
    :param buffer: The replay buffer's name in the registry; None where it was not named by it.
    :param policy_name: Likewise the policy's, by which the config or the algorithm names it.
    :param extractor: Likewise the features extractor's.
    """

    algorithm: str
    source: str
    given: Mapping[str, Any]
    arguments: Mapping[str, Any]
    policy: Any = "MlpPolicy"
    n_timesteps: int | None = None
    n_envs: int = 1
    normalize: Mapping[str, Any] | None = None
    frame_stack: int | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    monitor_kwargs: Mapping[str, Any] = field(default_factory=dict)
    env_wrapper: tuple[Reference, ...] = ()
    vec_env_wrapper: tuple[Reference, ...] = ()
    callback: tuple[Reference, ...] = ()
    noise_type: str | None = None
    noise_std: float | None = None
    noise: Reference | None = None
    sync: Mapping[str, Any] | None = None
    buffer: str | None = None
    policy_name: str | None = None
    extractor: str | None = None

    def model_arguments(self, action_dim: int | tuple[int, ...]) -> dict[str, Any]:
        """
        What the zoo would pass to the algorithm besides the environment: policy and noise included.

        :param action_dim: Length of an action, or its shape.
        """
        keywords = {"policy": self.policy, **self.arguments}
        if self.noise_type is not None and self.noise_std is not None:
            keywords["action_noise"] = zoo.action_noise(self.noise_type, self.noise_std, action_dim)
        return keywords

    def records(self) -> list[dict[str, Any]]:
        """What the registry's names stand for here: `Found.record` of each."""
        manager = get_plugin_manager()
        named = [*self.env_wrapper, *self.callback, *([self.noise] if self.noise else [])]
        of_policy = self.arguments.get("policy_kwargs") or {}
        parts = [
            *((each.kind, each.name, each.arguments) for each in named if registered(each.name)),
            ("replay-buffer", self.buffer, self.arguments.get("replay_buffer_kwargs")),
            ("policy", self.policy_name, of_policy),
            ("features-extractor", self.extractor, of_policy.get("features_extractor_kwargs")),
        ]
        return [
            manager.find(kind, name).record(_written(dict(params or {})))
            for kind, name, params in parts
            if name
        ]

    def as_yaml(self) -> str:
        """A config file with this experiment as its only entry, `default`."""
        return write_yaml({"default": self.as_plain()})

    def as_plain(self) -> dict[str, Any]:
        """The entry as YAML can hold it."""
        return {key: _written(each) for key, each in self.given.items()}

    def may_have_been(self, plain: Mapping[str, Any]) -> bool:
        """Whether this is `as_plain` of it: objects, which that has as text, may be any."""
        return _may_have_been(dict(self.given), plain)

    def unwritable(self) -> dict[str, list[Any]]:
        """What `as_yaml` cannot hold, by key: objects of a Python file, classes made in it."""
        found = {key: list(_unwritable(value)) for key, value in self.given.items()}
        return {key: parts for key, parts in found.items() if parts}

    def check_components(self) -> None:
        """
        Import the wrappers and callbacks that are named.

        :raises ConfigError: naming all that cannot be had.
        """
        named = [*self.env_wrapper, *self.vec_env_wrapper, *self.callback]
        problems = [line for each in named for line in each.problems()]
        if problems:
            raise ConfigError(*problems)


def _unwritable(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = [part for pair in value.items() for part in pair]
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _unwritable(each)
    elif isinstance(value, type):
        if value.__module__ == "<run_path>":
            yield value
    elif type(value) not in _PLAIN:  # of those derived from these, such as enums, YAML knows none
        yield value


def _may_have_been(value: Any, plain: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(plain, Mapping) and _may_have_been([*value.items()], [*plain.items()])
    if isinstance(value, (list, tuple)):
        several = isinstance(plain, (list, tuple)) and len(plain) == len(value)
        return several and all(map(_may_have_been, value, plain))
    return any(_unwritable(value)) or write_yaml(_written(value)) == write_yaml(plain)


def _written(value: Any) -> Any:
    """What trusted Python files hold as YAML can hold it: classes as their paths."""
    if isinstance(value, dict):
        return {_written(key): _written(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_written(each) for each in value]
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return value if type(value) in _PLAIN else repr(value)


def read_experiment(
    path: Path | str,
    algorithm: str,
    env_id: str,
    *,
    overrides: str | Sequence[str | Override] = (),
    trust: bool = False,
) -> Experiment:
    """
    Read the entry of an environment.

    :param path: A YAML file in the zoo's layout; a Python file only with `trust`.
    :param algorithm: Whose arguments the entry holds; ``her-`` before it names the buffer.
    :param env_id: The full id of an environment, whose entry may have any name that commands take
        for it; one without an entry of its own takes ``atari`` where it is an Atari game, otherwise
        ``default``; where an override names demonstrations, one called ``ENV with demonstrations``
        comes first.
    :param overrides: ``key.path=value``, one or several, with the value in YAML, or read already.
    :param trust: Run Python files, import classes from any package.
    :raises ConfigError: with one line for each mistake.
    """
    path = Path(path)
    document = read_document(path, trust=trust)
    several = [overrides] if isinstance(overrides, str) else overrides
    changes = [
        parse_override(each, trust=trust) if isinstance(each, str) else each for each in several
    ]
    demonstrated = any(change.path == ("demonstrations",) for change in changes)
    entry, content = choose_entry(document, env_id, demonstrated)
    reader = EntryReader(document, entry, algorithm, trust=trust)
    if algorithm.startswith("her-") and path == algorithm_spec(algorithm).config:
        # A plugin's file is for both commands; in that of the other, MlpPolicy is for dicts too.
        content = {key: each for key, each in content.items() if (key, each) != _USUAL_POLICY}
    return Experiment(**reader.read(content, changes))

"""One entry of a config, key by key, with its mistakes collected on the way."""

from collections.abc import Iterable, Mapping, Sequence
from inspect import Parameter
from pkgutil import resolve_name
from typing import Any

from pyrl_sb3.config import checks, zoo
from pyrl_sb3.config.algorithms import (
    algorithm_class,
    algorithm_spec,
    policy_arguments,
    policy_called,
    policy_chosen,
    policy_meant,
)
from pyrl_sb3.config.combinations import OF_HINDSIGHT, contradictions, has_hindsight
from pyrl_sb3.config.components import Reference, check_path, defaults_of, load_class, registered
from pyrl_sb3.config.documents import Document
from pyrl_sb3.config.errors import ConfigError
from pyrl_sb3.config.n_steps import told_to_the_buffer
from pyrl_sb3.config.overrides import Override, apply
from pyrl_sb3.config.syncs import sync_plan
from pyrl_sb3.errors import did_you_mean, short
from pyrl_sb3.plugins import PluginError, get_plugin_manager, parse_noise
from pyrl_sb3.plugins.signature import parameters

# Arguments of policies that are classes, which a mapping names in text.
_CLASSES = {
    "activation_fn": "activation",
    "features_extractor_class": "features-extractor",
    "optimizer_class": "optimizer",
}
_KINDS = {
    "env_wrapper": "env-wrapper",
    "vec_env_wrapper": "vec-env-wrapper",
    "callback": "callback",
}
_GIVEN_TO_POLICIES = frozenset({"observation_space", "action_space", "lr_schedule", "use_sde"})
# Of runs that name no other: SB3's for several steps takes some of its arguments.
_BUFFER = "pyrl_sb3.buffers:ReplayBuffer"
_GIVEN_TO_BUFFERS = frozenset(
    {"buffer_size", "observation_space", "action_space", "env", "device", "n_envs"}
)


class EntryReader:
    """
    Reads one entry.

    :param algorithm: Whose arguments the entry holds.
    """

    def __init__(self, document: Document, entry: str, algorithm: str, *, trust: bool) -> None:
        self.document, self.entry, self.algorithm, self.trust = document, entry, algorithm, trust
        self.cls = algorithm_class(algorithm)
        self.declared = {
            name: parameter
            for name, parameter in parameters(self.cls)[0].items()
            if name not in zoo.RUN_KEYS and not name.startswith("_")
        }
        self.changes: Sequence[Override] = ()
        self.problems: list[str] = []
        self.named: dict[str, str] = {}  # what the registry has, by the fields of `Experiment`
        self.refused: set[str] = set()  # keys that have a problem, of which values lack some

    def read(self, content: Mapping[str, Any], changes: list[Override]) -> dict[str, Any]:
        """
        The fields of an `Experiment`.

        :raises ConfigError: with one line for each mistake.
        """
        self.changes = changes
        given = apply(content, changes)
        values: dict[str, Any] = {"policy": None}
        for key, value in given.items():
            if self._known(key):
                try:
                    values[key] = self._value(key, value)
                except ValueError as error:
                    self._fail((key,), str(error))
                except PluginError as error:  # whose lines stay lines
                    self.problems.append(f"{self._where((key,))}: {error}")
                    self.refused.add(key)
        if registered(given.get("replay_buffer_class")) and "replay_buffer_class" in values:
            self.named["buffer"] = given["replay_buffer_class"]
        if "policy" not in self.refused:
            self._policy(given.get("policy"), values)
        self._components(values)
        try:
            values = told_to_the_buffer(values, self.cls)
        except ValueError as error:
            self._fail(("n_steps",), str(error))
        for keys, message in contradictions(values, self.cls, self.declared, self.refused):
            self._fail(keys, message)
        if self.problems:
            raise ConfigError(*self.problems)
        run = {key: values.pop(key) for key in zoo.RUN_KEYS if key in values}
        return {
            **{key: value for key, value in run.items() if value is not None},
            **self.named,
            "algorithm": self.algorithm,
            "source": f"{self.document.name}: {self.entry}" if self.entry else self.document.name,
            "given": given,
            "arguments": values,
        }

    def _fail(self, path: tuple[str, ...], message: str) -> None:
        self.problems.append(f"{self._where(path)}: {' '.join(message.split())}")
        self.refused.add(path[0])

    def _where(self, path: tuple[str, ...]) -> str:
        for change in self.changes:
            if path[: len(change.path)] == change.path:
                return ".".join([change.where, *path[len(change.path) :]])
        return self.document.where([self.entry, *path] if self.entry else path)

    def _known(self, key: str) -> bool:
        if key in zoo.FROM_COMMAND_LINE:
            self._fail((key,), "is set by the command line, not by a config")
        elif key == "demonstrations" and key not in self.declared:
            self._fail((key,), f"{self.cls.__name__} learns from no demonstrations")
        elif key not in self.declared and key not in zoo.RUN_KEYS:
            advice = did_you_mean(key, [*zoo.RUN_KEYS, *self.declared])
            self._fail((key,), f"{self.cls.__name__} has no such setting{advice}")
        else:
            return True
        return False

    def _value(self, key: str, value: Any) -> Any:
        """The value as the experiment keeps it; raises ValueError when it cannot be that."""
        if key in _KINDS:
            return self._references(key, value)
        if key == "learning_rate":
            return zoo.schedule(value)
        if key in zoo.AUTOMATIC and isinstance(value, str) and self.declared[key].default == "auto":
            value = zoo.automatic(key, value)
        if key == "normalize":
            return value  # needs the discount factor
        if key == "noise":
            return self._noise(value)
        if key == "sync":
            return sync_plan(value, trust=self.trust)
        if key == "monitor_kwargs":
            return zoo.monitoring(value)
        if key in zoo.MAPPINGS:
            return zoo.mapping(value)
        if key == "replay_buffer_class":
            return load_class("replay-buffer", value, trust=self.trust)
        if key == "policy":
            return policy_chosen(self.algorithm, value, trust=self.trust)
        if key == "noise_type" and isinstance(value, str):
            return value.strip()
        hint = zoo.RUN_KEYS.get(key) or self.declared[key].annotation
        hint = Any if hint is Parameter.empty else hint
        value = checks.as_declared(value, hint)
        message = checks.problem(key, value, hint)
        if message:
            raise ValueError(message)
        return value

    def _references(self, key: str, value: Any) -> tuple[Reference, ...]:
        kind, where, trust = _KINDS[key], self._where((key,)), self.trust
        found = zoo.references(value)
        for name, _ in found:
            check_path(kind, name, trust=trust)
        return tuple(
            Reference(kind=kind, name=name, params=params, where=where, trust=trust)
            for name, params in found
        )

    def _noise(self, value: Any) -> Reference | None:
        if value is None or value == "none":
            return None
        if (
            isinstance(value, dict)
            and set(value) <= {"name", "params"}
            and isinstance(value.get("name"), str)
        ):
            name, params = value["name"], value.get("params") or {}
            if not isinstance(params, dict):
                raise ValueError(f"params: must be a mapping of names, not {short(params)}")
        elif isinstance(value, str):
            name, params = parse_noise(get_plugin_manager(), value)
        else:
            raise ValueError("must be text such as ou_0.2, or {name: ou, params: {sigma: 0.2}}")
        check_path("noise", name, trust=self.trust)
        params = get_plugin_manager().check_params("noise", name, params)
        return Reference(kind="noise", name=name, params=params, where=self._where(("noise",)))

    def _policy(self, policy: Any, values: dict[str, Any]) -> None:
        """Note what the policy is called, and add what its plugin passes."""
        if registered(called := policy_called(self.algorithm, policy)):
            self.named["policy_name"] = called
        own = values.get("policy_kwargs")
        if keywords := policy_arguments(self.algorithm, policy, own):
            values["policy_kwargs"] = keywords

    def _components(self, values: dict[str, Any]) -> None:
        """Fill in what depends on other keys."""
        buffer = values.get("replay_buffer_class")
        if buffer is None and self.algorithm.startswith("her-"):
            buffer = values["replay_buffer_class"] = load_class("replay-buffer", "HerReplayBuffer")
        goals = has_hindsight(buffer)
        if values["policy"] is None:
            values["policy"] = "MultiInputPolicy" if goals else "MlpPolicy"
        if "normalize" in values:
            try:
                values["normalize"] = zoo.normalization(values["normalize"], values.get("gamma"))
            except ValueError as error:
                self._fail(("normalize",), str(error))
                del values["normalize"]
        self._policy_kwargs(values)
        self._names("normalize", values, "stable_baselines3.common.vec_env:VecNormalize", {"venv"})
        self._names("monitor_kwargs", values, "stable_baselines3.common.monitor:Monitor", {"env"})
        if "replay_buffer_class" in self.refused:
            return  # what it was to be takes other arguments
        if buffer is not None and (goals or not self.algorithm.startswith("her-")):
            self._buffer_kwargs(values, buffer)
        elif buffer is not None:
            self._fail(
                ("replay_buffer_class",),
                f"{self.algorithm} needs a buffer with hindsight, such as her, not "
                f"{buffer.__name__}; without hindsight use {self.algorithm.removeprefix('her-')}",
            )
        elif not (
            OF_HINDSIGHT & (values.get("replay_buffer_kwargs") or {}).keys()  # which need a class
            or "replay_buffer_class" in algorithm_spec(self.algorithm).defaults
        ):
            self._names("replay_buffer_kwargs", values, _BUFFER, _GIVEN_TO_BUFFERS)

    def _buffer_kwargs(self, values: dict[str, Any], buffer: Any) -> None:
        earlier = len(self.problems)
        self._names("replay_buffer_kwargs", values, buffer, _GIVEN_TO_BUFFERS)
        if "buffer" not in self.named or len(self.problems) > earlier:
            return
        keywords = values.get("replay_buffer_kwargs") or {}
        try:
            keywords = get_plugin_manager().check_params(
                "replay-buffer", self.named["buffer"], keywords
            )
        except PluginError as error:
            self._fail(("replay_buffer_kwargs",), str(error))
        if keywords:
            values["replay_buffer_kwargs"] = keywords

    def _policy_kwargs(self, values: dict[str, Any]) -> None:
        keywords = values.get("policy_kwargs") or {}
        extractor = keywords.get("features_extractor_class")
        self._use_sde(values, keywords)
        for key, kind in _CLASSES.items():
            if key in keywords:
                try:
                    keywords[key] = load_class(kind, keywords[key], trust=self.trust)
                except (ConfigError, PluginError) as error:
                    self._fail(("policy_kwargs", key), str(error))
        for key, read in zoo.POLICY_ARGUMENTS.items():
            if key in keywords:
                try:
                    keywords[key] = read(keywords[key])
                except ValueError as error:
                    self._fail(("policy_kwargs", key), str(error))
                    del keywords[key]
        found = callable(keywords.get("features_extractor_class"))
        if found and registered(extractor):
            self.named["extractor"] = extractor
            own = keywords.get("features_extractor_kwargs") or {}
            if defaults := defaults_of("features-extractor", extractor):
                keywords["features_extractor_kwargs"] = {**defaults, **own}
        if keywords and "policy" not in self.refused:
            policy = policy_meant(self.algorithm, values["policy"])
            self._names("policy_kwargs", values, policy, _GIVEN_TO_POLICIES)

    def _use_sde(self, values: Mapping[str, Any], keywords: dict[str, Any]) -> None:
        """SB3 writes its `use_sde` into a mapping that it gets, and the zoo that into a config."""
        if "use_sde" not in keywords or "use_sde" not in self.declared:
            return
        written = keywords.pop("use_sde")
        used = values.get("use_sde", self.declared["use_sde"].default)
        if written != used and "use_sde" not in self.refused:
            message = f"must be {short(used)}, as use_sde of {self.cls.__name__} is, or left out"
            self._fail(("policy_kwargs", "use_sde"), message)

    def _names(self, key: str, values: Mapping[str, Any], target: Any, ours: Iterable[str]) -> None:
        """Check a mapping of keyword arguments against what takes them; see `checks.argument`."""
        target = resolve_name(target) if isinstance(target, str) else target
        known, anything = parameters(target)
        choices = known.keys() - set(ours)
        keywords = values.get(key) or {}
        for name, value in keywords.items():
            if name in choices:
                try:
                    keywords[name] = checks.argument(value, known[name], name)
                except ValueError as error:
                    self._fail((key, name), str(error))
            elif not anything:
                advice = did_you_mean(name, choices)
                self._fail((key, name), f"{target.__name__} has no such argument{advice}")

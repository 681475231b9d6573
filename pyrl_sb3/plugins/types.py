"""What a plugin hands over: one frozen dataclass for each kind of component, checked when made."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

API_VERSION = 1
MIN_API = 1

Target = str | Callable[..., Any]

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclass(frozen=True, kw_only=True)
class Component:
    """
    A named component.

    :param name: Lower-case words joined by hyphens; unique within the plugin and kind.
    :param target: ``"package.module:Attribute"``, imported on first use (preferred), or the object.
    :param summary: One line for ``pyrl list``.
    :param aliases: Further names.
    :param defaults: Parameters passed to the target unless the user sets them.
    :param deprecated: Shown as a warning on use: what to use instead.
    :param install_hint: Shown when the target cannot be imported, e.g. ``pip install x[extra]``.
    :raises ValueError: for a malformed name, alias or target.
    """

    kind: ClassVar[str] = ""
    hook: ClassVar[str] = ""
    # How many leading arguments, and which keywords, the library passes itself.
    leading: ClassVar[int] = 0
    supplied: ClassVar[frozenset[str]] = frozenset()

    name: str
    target: Target
    summary: str = ""
    aliases: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    deprecated: str | None = None
    install_hint: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without importing the target."""
        if isinstance(self.aliases, str):
            raise ValueError(f"aliases must be a tuple of names, not the string {self.aliases!r}")
        for name in (self.name, *self.aliases):
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise ValueError(f"name {name!r} is not lower-case words joined by hyphens")
        if isinstance(self.target, str):
            if not _TARGET.fullmatch(self.target):
                raise ValueError(f"target {self.target!r} does not read 'package.module:Attribute'")
        elif not callable(self.target):
            raise ValueError(f"target of {self.name!r} is neither a string nor callable")

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its aliases."""
        return (self.name, *self.aliases)


@dataclass(frozen=True, kw_only=True)
class NoiseSpec(Component):
    """
    Action noise; target ``factory(context: NoiseContext, **params) -> ActionNoise``.

    The library calls the factory once per environment, each with a generator of its own: SB3's
    ``VectorizedActionNoise`` would copy one generator, and all environments explore alike.

    :param vectorized: The factory makes one process for all environments, with draws of shape
        ``(n_envs, action_dim)``; its `reset` may take `indices` of those that begin an episode.
    :param scale: The parameter that the number in ``name_0.3`` sets.
    """

    kind: ClassVar[str] = "noise"
    hook: ClassVar[str] = "pyrl_noise_processes"
    leading: ClassVar[int] = 1

    vectorized: bool = False
    scale: str | None = "sigma"


@dataclass(frozen=True, kw_only=True)
class ReplayBufferSpec(Component):
    """
    Replay buffer; the target is the class, which SB3 constructs.

    :param observation_kinds: ``"array"``, ``"dict"`` or both.
    :param needs: What the algorithm must offer: ``"env"``, ``"priority-updates"``,
        ``"importance-weights"``. One that does not is refused before training.
    """

    kind: ClassVar[str] = "replay-buffer"
    hook: ClassVar[str] = "pyrl_replay_buffers"
    supplied: ClassVar[frozenset[str]] = frozenset(
        {"buffer_size", "observation_space", "action_space", "env"}
        | {"device", "n_envs", "optimize_memory_usage"}
    )
    possible_needs: ClassVar[frozenset[str]] = frozenset(
        {"env", "priority-updates", "importance-weights"}
    )

    observation_kinds: frozenset[str] = frozenset({"array"})
    needs: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Check the words as well."""
        super().__post_init__()
        _check_words("observation_kinds", self.observation_kinds, {"array", "dict"})
        _check_words("needs", self.needs, self.possible_needs)


@dataclass(frozen=True, kw_only=True)
class SyncCallbackSpec(Component):
    """
    Synchronisation of seeds; target ``factory(context: SyncContext, **params) -> BaseCallback``.

    :param couples_seeds: Whether copies exchange weights or choose each other's parameters. Then
        they are one sample, and reports give no interval over them. Has no default on purpose.
    """

    kind: ClassVar[str] = "sync-callback"
    hook: ClassVar[str] = "pyrl_sync_callbacks"
    leading: ClassVar[int] = 1

    couples_seeds: bool


@dataclass(frozen=True, kw_only=True)
class CallbackSpec(Component):
    """SB3 callback; target ``factory(**params) -> BaseCallback``; `eval_env` is ours to pass."""

    kind: ClassVar[str] = "callback"
    hook: ClassVar[str] = "pyrl_callbacks"
    supplied: ClassVar[frozenset[str]] = frozenset({"eval_env"})


@dataclass(frozen=True, kw_only=True)
class PolicySpec(Component):
    """
    Policy class.

    :param algorithms: Names of the algorithms it works with; empty for all.
    """

    kind: ClassVar[str] = "policy"
    hook: ClassVar[str] = "pyrl_policies"
    supplied: ClassVar[frozenset[str]] = frozenset(
        {"observation_space", "action_space", "lr_schedule"}
    )

    algorithms: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class FeaturesExtractorSpec(Component):
    """Subclass of SB3's ``BaseFeaturesExtractor``."""

    kind: ClassVar[str] = "features-extractor"
    hook: ClassVar[str] = "pyrl_features_extractors"
    supplied: ClassVar[frozenset[str]] = frozenset({"observation_space"})


@dataclass(frozen=True, kw_only=True)
class AlgorithmSpec(Component):
    """
    Algorithm class with SB3's interface.

    :param action_kinds: ``"box"``, ``"discrete"`` or both.
    :param off_policy: Whether it learns from a replay buffer; only then it has commands.
    :param serves: Needs of replay buffers (see `ReplayBufferSpec`) that it can meet.
    :param policy: What stands for ``MlpPolicy`` and its siblings in runs of the commands: a policy
        of the registry, ``"package.module:Class"`` or the class; the algorithm's own where None.
    :param config: A YAML file of hyperparameters, for runs that name no other: with an entry for
        ``default``, and for environments as in all configs.
    """

    kind: ClassVar[str] = "algorithm"
    hook: ClassVar[str] = "pyrl_algorithms"
    supplied: ClassVar[frozenset[str]] = frozenset({"policy", "env", "_init_setup_model"})

    action_kinds: frozenset[str] = frozenset({"box"})
    off_policy: bool = True
    serves: frozenset[str] = frozenset()
    policy: Target | None = None
    config: Path | None = None

    def __post_init__(self) -> None:
        """Check the words and the file as well."""
        super().__post_init__()
        _check_words("action_kinds", self.action_kinds, {"box", "discrete"})
        _check_words("serves", self.serves, ReplayBufferSpec.possible_needs)
        if self.config is not None and not isinstance(self.config, Path):
            raise ValueError(f"config {self.config!r} is no Path, such as Path(__file__).with_name")


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec(Component):
    """
    Gymnasium environment. It never enters gymnasium's global registry, which worker processes do
    not share: `pyrl_sb3.plugins.environment_spec` turns it into a ``gymnasium.EnvSpec`` to pass on.

    :param max_episode_steps: Limit after which episodes are truncated.
    :param kwargs: Arguments of the environment's constructor.
    """

    kind: ClassVar[str] = "environment"
    hook: ClassVar[str] = "pyrl_environments"
    supplied: ClassVar[frozenset[str]] = frozenset({"render_mode"})

    max_episode_steps: int | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EnvWrapperSpec(Component):
    """Wrapper of single environments; target ``wrapper(env, **params)``."""

    kind: ClassVar[str] = "env-wrapper"
    hook: ClassVar[str] = "pyrl_env_wrappers"
    leading: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True)
class EngineSpec(Component):
    """
    What runs the processes of several seeds; target ``engine()`` with the methods of
    `pyrl_sb3.training.engines.Engine`.
    """

    kind: ClassVar[str] = "engine"
    hook: ClassVar[str] = "pyrl_engines"


SPECS: dict[str, type[Component]] = {
    spec.kind: spec
    for spec in (
        NoiseSpec,
        ReplayBufferSpec,
        SyncCallbackSpec,
        CallbackSpec,
        PolicySpec,
        FeaturesExtractorSpec,
        AlgorithmSpec,
        EnvironmentSpec,
        EnvWrapperSpec,
        EngineSpec,
    )
}


def _check_words(field_name: str, words: frozenset[str], known: set[str] | frozenset[str]) -> None:
    if isinstance(words, str) or not set(words) <= known:
        raise ValueError(f"{field_name} {words!r} is not a set of {', '.join(sorted(known))}")

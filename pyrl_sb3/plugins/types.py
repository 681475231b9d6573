"""What a plugin hands over: one frozen dataclass for each kind of component, checked when made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pyrl_sb3.plugins import fields
from pyrl_sb3.plugins.component import Component, Target

API_VERSION = 1
MIN_API = 1


@dataclass(frozen=True, kw_only=True)
class NoiseSpec(Component):
    """
    Action noise; target ``factory(context: NoiseContext, **params) -> ActionNoise``.

    The library calls the factory once per environment, each with a generator of its own: SB3's
    ``VectorizedActionNoise`` would copy one generator, and all environments explore alike.

    :param vectorized: The factory makes one process for all environments, with draws of shape
        ``(n_envs, *action_shape)``; its `reset` may take `indices` of those that begin an episode.
    :param scale: The parameter that the number in ``name_0.3`` sets.
    """

    kind: ClassVar[str] = "noise"
    hook: ClassVar[str] = "pyrl_noise_processes"
    leading: ClassVar[int] = 1

    vectorized: bool = False
    scale: str | None = "sigma"

    def _check(self) -> None:
        super()._check()
        fields.check_bool("vectorized", self.vectorized)
        if self.scale is not None and not (
            isinstance(self.scale, str) and self.scale.isidentifier()
        ):
            raise ValueError(f"scale must be the name of a parameter or None, not {self.scale!r}")


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

    def _check(self) -> None:
        super()._check()
        fields.check_words("observation_kinds", self.observation_kinds, {"array", "dict"})
        fields.check_words("needs", self.needs, self.possible_needs)


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

    def _check(self) -> None:
        super()._check()
        fields.check_bool("couples_seeds", self.couples_seeds)


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

    :param algorithms: Names of the algorithms it works with, ``sac`` for ``her-sac`` too; empty for
        all. Another is refused before training, unless its `AlgorithmSpec` names this `policy`.
    """

    kind: ClassVar[str] = "policy"
    hook: ClassVar[str] = "pyrl_policies"
    supplied: ClassVar[frozenset[str]] = frozenset(
        {"observation_space", "action_space", "lr_schedule"}
    )

    algorithms: frozenset[str] = frozenset()

    def _check(self) -> None:
        super()._check()
        fields.check_words("algorithms", self.algorithms)


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

    def _check(self) -> None:
        super()._check()
        fields.check_words("action_kinds", self.action_kinds, {"box", "discrete"})
        fields.check_bool("off_policy", self.off_policy)
        fields.check_words("serves", self.serves, ReplayBufferSpec.possible_needs)
        if not (self.policy is None or isinstance(self.policy, str) or callable(self.policy)):
            raise ValueError(f"policy {self.policy!r} is no name, no class and not None")
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

    def _check(self) -> None:
        super()._check()
        steps: object = self.max_episode_steps
        if steps is not None and (type(steps) is not int or steps < 1):
            raise ValueError(f"max_episode_steps must be a number above 0 or None, not {steps!r}")
        fields.check_keywords("kwargs", self.kwargs)


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

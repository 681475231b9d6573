"""The hooks. None takes arguments; each returns (or yields) components, see `types`."""

from collections.abc import Iterable

import pluggy

from pyrl_sb3.plugins.types import (
    AlgorithmSpec,
    CallbackSpec,
    EngineSpec,
    EnvironmentSpec,
    EnvWrapperSpec,
    FeaturesExtractorSpec,
    NoiseSpec,
    PolicySpec,
    ReplayBufferSpec,
    SyncCallbackSpec,
)

PROJECT = "pyrl_sb3"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def pyrl_noise_processes() -> Iterable[NoiseSpec]:  # type: ignore[empty-body]
    """Action noise."""


@hookspec
def pyrl_replay_buffers() -> Iterable[ReplayBufferSpec]:  # type: ignore[empty-body]
    """Replay buffers."""


@hookspec
def pyrl_sync_callbacks() -> Iterable[SyncCallbackSpec]:  # type: ignore[empty-body]
    """Synchronisation of the copies (seeds) of one agent."""


@hookspec
def pyrl_callbacks() -> Iterable[CallbackSpec]:  # type: ignore[empty-body]
    """SB3 callbacks."""


@hookspec
def pyrl_policies() -> Iterable[PolicySpec]:  # type: ignore[empty-body]
    """Policies."""


@hookspec
def pyrl_features_extractors() -> Iterable[FeaturesExtractorSpec]:  # type: ignore[empty-body]
    """Features extractors."""


@hookspec
def pyrl_algorithms() -> Iterable[AlgorithmSpec]:  # type: ignore[empty-body]
    """Algorithms."""


@hookspec
def pyrl_environments() -> Iterable[EnvironmentSpec]:  # type: ignore[empty-body]
    """Environments."""


@hookspec
def pyrl_env_wrappers() -> Iterable[EnvWrapperSpec]:  # type: ignore[empty-body]
    """Wrappers of single environments."""


@hookspec
def pyrl_engines() -> Iterable[EngineSpec]:  # type: ignore[empty-body]
    """What runs the processes of several seeds."""

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
def pyrl_noise_processes() -> Iterable[NoiseSpec]:
    """Action noise."""


@hookspec
def pyrl_replay_buffers() -> Iterable[ReplayBufferSpec]:
    """Replay buffers."""


@hookspec
def pyrl_sync_callbacks() -> Iterable[SyncCallbackSpec]:
    """Synchronisation of the copies (seeds) of one agent."""


@hookspec
def pyrl_callbacks() -> Iterable[CallbackSpec]:
    """SB3 callbacks."""


@hookspec
def pyrl_policies() -> Iterable[PolicySpec]:
    """Policies."""


@hookspec
def pyrl_features_extractors() -> Iterable[FeaturesExtractorSpec]:
    """Features extractors."""


@hookspec
def pyrl_algorithms() -> Iterable[AlgorithmSpec]:
    """Algorithms."""


@hookspec
def pyrl_environments() -> Iterable[EnvironmentSpec]:
    """Environments."""


@hookspec
def pyrl_env_wrappers() -> Iterable[EnvWrapperSpec]:
    """Wrappers of single environments."""


@hookspec
def pyrl_engines() -> Iterable[EngineSpec]:
    """What runs the processes of several seeds."""

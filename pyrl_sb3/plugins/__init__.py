"""
Plugins: components that other distributions add under the entry-point group ``pyrl_sb3``.

A plugin module imports only from here; neither torch nor SB3 is loaded by it.
"""

from pyrl_sb3.plugins.build import (
    check_buffer,
    environment_spec,
    make_noise,
    noise_from_config,
)
from pyrl_sb3.plugins.component import Component
from pyrl_sb3.plugins.contexts import NoiseContext, SeedGroup, SyncContext
from pyrl_sb3.plugins.errors import (
    AmbiguousComponentError,
    ComponentLoadError,
    ComponentParameterError,
    MissingPluginError,
    PluginError,
    PluginFailure,
    PluginWarning,
    UnknownComponentError,
)
from pyrl_sb3.plugins.hookspecs import hookimpl
from pyrl_sb3.plugins.lookup import Found, PluginInfo
from pyrl_sb3.plugins.manager import PluginManager, get_plugin_manager
from pyrl_sb3.plugins.noise_in_short import parse_noise
from pyrl_sb3.plugins.settings import Settings, apply_options
from pyrl_sb3.plugins.types import (
    API_VERSION,
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

__all__ = [
    "API_VERSION",
    "AlgorithmSpec",
    "AmbiguousComponentError",
    "CallbackSpec",
    "Component",
    "ComponentLoadError",
    "ComponentParameterError",
    "EngineSpec",
    "EnvWrapperSpec",
    "EnvironmentSpec",
    "FeaturesExtractorSpec",
    "Found",
    "MissingPluginError",
    "NoiseContext",
    "NoiseSpec",
    "PluginError",
    "PluginFailure",
    "PluginInfo",
    "PluginManager",
    "PluginWarning",
    "PolicySpec",
    "ReplayBufferSpec",
    "SeedGroup",
    "Settings",
    "SyncCallbackSpec",
    "SyncContext",
    "UnknownComponentError",
    "apply_options",
    "check_buffer",
    "environment_spec",
    "get_plugin_manager",
    "hookimpl",
    "make_noise",
    "noise_from_config",
    "parse_noise",
]

"""Classes that a file may name: networks, policies and optimisers of packages one has chosen."""

import sys
from importlib import import_module

import torch as th
from torch import nn

from pyrl_sb3.plugins import PluginError, get_plugin_manager

# Their modules are imported when named; none of those does more than define things.
_PACKAGES = ("stable_baselines3", "sb3_contrib", "pyrl_sb3", "torch.nn.modules", "torch.optim")
_KINDS = (nn.Module, th.optim.Optimizer)
# What a policy is made of, and plugins bring.
_OF_POLICIES = ("policy", "features-extractor")


def find_known_class(module: str, name: str) -> type | None:
    """
    Return the class of that module and name, if it is one that may be named.

    It must be a network, policy or optimiser, defined where the file says (not imported there), and
    public. Of plugins, only modules are taken that the plugin's own policies and features
    extractors bring; nothing is imported because a file says so.
    """
    parts = [*module.split("."), name]
    if not all(part.isidentifier() and not part.startswith("_") for part in parts):
        return None
    if any(module == package or module.startswith(f"{package}.") for package in _PACKAGES):
        try:
            import_module(module)
        except ImportError:
            return None
    elif not _is_of_plugin(module):
        return None
    found = getattr(sys.modules.get(module), name, None)
    fits = isinstance(found, type) and issubclass(found, _KINDS) and found.__module__ == module
    return found if fits else None


def _is_of_plugin(module: str) -> bool:
    manager = get_plugin_manager()
    package = module.partition(".")[0]
    for kind in _OF_POLICIES:
        for found in manager.components(kind):
            if found.plugin and found.plugin.package == package:
                try:
                    manager.load(kind, found.name)
                except PluginError:
                    continue
    return module in sys.modules and package in {info.package for info in manager.plugins.values()}

from pyrl_sb3.testing.pytest_plugin import pyrl_plugins

__all__ = ["pyrl_plugins"]

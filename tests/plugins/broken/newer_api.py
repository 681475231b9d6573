"""Written for a version to come."""

from pyrl_sb3.plugins import hookimpl

PYRL_PLUGIN_API = 99


@hookimpl
def pyrl_noise_processes():
    return []

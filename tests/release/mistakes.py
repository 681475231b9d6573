"""What a type checker must refuse, line by line, where the package is installed."""

from pyrl_sb3.plugins import NoiseSpec, get_plugin_manager
from pyrl_sb3.testing import check_noise

NoiseSpec(name="kick", goal="kick:kick")
get_plugin_manager().load("noise")
check_noise(0.3)

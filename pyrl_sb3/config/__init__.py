"""Configs: what was asked for, in RL Baselines3 Zoo's YAML, read without running any of it."""

from pyrl_sb3.config.components import Reference, wrapping
from pyrl_sb3.config.errors import ConfigError
from pyrl_sb3.config.experiment import Experiment, read_experiment

__all__ = ["ConfigError", "Experiment", "Reference", "read_experiment", "wrapping"]

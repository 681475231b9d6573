"""
Write `processed.json`: what rl_zoo3's own ExperimentManager makes of all entries of the files here.

Run in an environment with rl_zoo3 2.9.2 when the files are updated; the tests read the result.
"""

import argparse
import inspect
import json
import sys
import types
from pathlib import Path
from unittest import mock

import gymnasium as gym
import numpy as np
import yaml
from rl_zoo3.exp_manager import ExperimentManager

HERE = Path(__file__).parent
ACTION_DIM = 3
# Named by the files, but part of no package that could be installed beside gymnasium 1.
MISSING = {
    "ae.wrapper": ["AutoencoderWrapper"],
    "gymnasium.wrappers.time_limit": ["TimeLimit"],
}


def plain(value):
    """Plain data for what a manager made, so that it can be written and compared."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return {"tuple": [plain(each) for each in value]}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, type):
        return {"class": f"{value.__module__}.{value.__qualname__}"}
    if type(value).__name__.endswith("ActionNoise"):
        return {
            "noise": type(value).__name__,
            "mean": list(value._mu),
            "sigma": list(value._sigma),
        }
    if callable(value):
        return {"schedule": [value(progress) for progress in (1.0, 0.75, 0.5, 0.1, 0.0)]}
    assert value is None or type(value) in (bool, int, float, str), value
    return value


def wrappers(wrap):
    if wrap is None:
        return []
    closure = inspect.getclosurevars(wrap).nonlocals
    named = [f"{cls.__module__}.{cls.__qualname__}" for cls in closure["wrapper_classes"]]
    return [list(pair) for pair in zip(named, closure["wrapper_kwargs"], strict=True)]


def processed(algorithm, env_id, config):
    def entry_point(asked):
        return "ale_py.env:AtariEnv" if asked == "atari" else "module:Environment"

    with mock.patch.object(ExperimentManager, "entry_point", staticmethod(entry_point)):
        manager = ExperimentManager(
            argparse.Namespace(), algorithm, env_id, "unused", config=str(config), verbose=0
        )
        unprocessed, saved = manager.read_hyperparameters()
        arguments, wrap, callbacks, wrap_vec = manager._preprocess_hyperparams(unprocessed)
    space = gym.spaces.Box(-1, 1, (ACTION_DIM,), np.float32)
    env = types.SimpleNamespace(action_space=space)
    arguments = manager._preprocess_action_noise(arguments, saved, env)
    return {
        "arguments": plain(arguments),
        "n_timesteps": manager.n_timesteps,
        "n_envs": manager.n_envs,
        "normalize": manager.normalize,
        "normalize_kwargs": plain(manager.normalize_kwargs),
        "frame_stack": manager.frame_stack,
        "env_kwargs": plain(manager.env_kwargs),
        "monitor_kwargs": plain(manager.monitor_kwargs),
        "env_wrapper": wrappers(wrap),
        "vec_env_wrapper": wrappers(wrap_vec),
        "callback": [f"{type(each).__module__}.{type(each).__qualname__}" for each in callbacks],
    }


def main():
    for module, names in MISSING.items():
        parent, _, last = module.rpartition(".")
        sys.modules.setdefault(parent, types.ModuleType(parent))
        stub = sys.modules[module] = types.ModuleType(module)
        setattr(sys.modules[parent], last, stub)
        for name in names:
            setattr(stub, name, type(name, (gym.Wrapper,), {"__module__": module}))
    results = {}
    for config in sorted(HERE.rglob("*.yml")):
        entries = yaml.safe_load(config.read_text())
        results[str(config.relative_to(HERE))] = {
            entry: processed(config.stem, entry, config) for entry in entries
        }
    text = json.dumps(results, indent=1, sort_keys=True)
    (HERE / "processed.json").write_text(f"{text}\n")
    print({name: len(entries) for name, entries in results.items()}, file=sys.stderr)


if __name__ == "__main__":
    main()

"""
The plugins as strangers meet them: wheels of the package and of each plugin, installed into a new
virtual environment. Run it by hand or by ``make test-plugins``; it takes minutes, and installs from
the package index.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))

# Plugin -> the component to train with, the kind, its parameters.
USES = {
    "pyrl-colored-noise": ("noise", "pink", {"sigma": 0.3}),
    "pyrl-prioritized-replay": ("replay-buffer", "prioritized", {"alpha": 0.7}),
}

# Plugin -> the same in a config, and on the command line.
CONFIGS = {
    "pyrl-colored-noise": {"noise": {"name": "pink", "params": {"sigma": 0.3}}},
    "pyrl-prioritized-replay": {
        "replay_buffer_class": "prioritized",
        "replay_buffer_kwargs": {"alpha": 0.7},
    },
}
OPTIONS = {
    "pyrl-colored-noise": ["--noise", "pink_0.3"],
    "pyrl-prioritized-replay": [
        *("--buffer", "prioritized"),
        *("--set", "replay_buffer_kwargs.alpha=0.7"),
    ],
}
SMALL = {"learning_starts": 50, "batch_size": 16, "policy_kwargs": {"net_arch": [16]}}

TRAIN = """
import sys, json
import gymnasium as gym, numpy as np
from pyrl_sb3.algorithms import TD3
from pyrl_sb3.plugins import NoiseContext, get_plugin_manager, make_noise
from pyrl_sb3.plugins.saved import save

kind, ref, params, path = *json.loads(sys.argv[1]), sys.argv[2]
manager, env = get_plugin_manager(), gym.make("Pendulum-v1")
keywords = {}
if kind == "noise":
    context = NoiseContext(action_space=env.action_space, rng=np.random.default_rng(0))
    keywords["action_noise"] = make_noise(manager, ref, params, context)
else:
    keywords["replay_buffer_class"] = manager.load(kind, ref)
    keywords["replay_buffer_kwargs"] = manager.check_params(kind, ref, params)
model = TD3("MlpPolicy", env, learning_starts=50, policy_kwargs={"net_arch": [16]}, **keywords)
model.learn(100)
save(model, path, [manager.find(kind, ref).record(params)])
"""

LOAD = """
import sys
import numpy as np
from pyrl_sb3.plugins.saved import load
model = load(sys.argv[1], missing=sys.argv[2])
print(model.predict(np.zeros(3, np.float32), deterministic=True)[0].item())
"""


def main() -> None:
    """Build, install, use, uninstall; stops at the first thing that is not as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        environment = Environment(folder / "venv", folder / "wheels")
        environment.install()
        check_listing(environment)
        for plugin in PLUGINS:
            print(f"== tests of {plugin.name}")
            environment.python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(plugin))
        for name, use in USES.items():
            check_use(environment, folder, name, use)
    print("== all as promised")


class Environment:
    """A virtual environment with the wheels of this repository."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.wheels = wheels
        venv.create(folder, with_pip=True)
        self.executable = folder / "bin" / "python"

    def install(self) -> None:
        """Build the wheels and install them, with the tested versions of what they need."""
        print("== building and installing wheels")
        pip = ("-m", "pip", "--quiet", "--disable-pip-version-check")
        self.python(*pip, "install", "pip>=25.1")  # older ones may look for versions for minutes
        for source in (ROOT, *PLUGINS):
            self.python(*pip, "wheel", "--no-deps", "--wheel-dir", str(self.wheels), str(source))
        constraints = ("--constraint", str(ROOT / "constraints.txt"))
        self.python(*pip, "install", *constraints, "torch")
        wheels = map(str, sorted(self.wheels.glob("*.whl")))
        self.python(*pip, "install", *constraints, "pytest", *wheels)

    def python(self, *arguments: str, fails: bool = False) -> str:
        """Run the environment's Python; what it printed, errors as well if it has to fail."""
        run = subprocess.run(
            [self.executable, *arguments], cwd=self.wheels.parent, capture_output=True, text=True
        )
        if bool(run.returncode) != fails:
            sys.exit(f"{arguments} ended with {run.returncode}\n{run.stdout}\n{run.stderr}")
        return run.stderr if fails else run.stdout

    def pyrl(self, *arguments: str, fails: bool = False) -> str:
        """Run the command line."""
        return self.python("-m", "pyrl_sb3", *arguments, fails=fails)


def check_listing(environment: Environment) -> None:
    """All plugins are listed, and the doctor finds nothing."""
    listed = json.loads(environment.pyrl("plugins", "list", "--json"))
    names = {plugin["distribution"] for plugin in listed["plugins"]}
    require(names == {plugin.name for plugin in PLUGINS}, f"plugins list gives {names}")
    environment.pyrl("plugins", "doctor")
    for plugin in listed["plugins"]:
        print(f"== pyrl plugins check {plugin['name']}")
        print(environment.pyrl("plugins", "check", plugin["name"]), end="")


def check_use(environment: Environment, folder: Path, name: str, use: tuple[object, ...]) -> None:
    """Train by name, load in a new process, uninstall, read what to install, act without it."""
    print(f"== training with {name}, loading, uninstalling")
    model = str(folder / f"{name}.zip")
    environment.python("-c", TRAIN, json.dumps(use), model)
    action = environment.python("-c", LOAD, model, "raise")
    runs = train_by_command(environment, folder, name)
    tested = [environment.pyrl("td3-test", "Pendulum-v1", run, "--episodes", "1") for run in runs]
    environment.python("-m", "pip", "--quiet", "uninstall", "--yes", name)
    check_commands_without(environment, name, runs, tested)
    error = environment.python("-c", LOAD, model, "raise", fails=True)
    require(f"pip install ./plugins/{name}," in error, f"the error does not name {name}:\n{error}")
    require(environment.python("-c", LOAD, model, "drop") == action, "acts differently without it")
    print(error.strip().splitlines()[-1])


def train_by_command(environment: Environment, folder: Path, name: str) -> list[str]:
    """Train from a config and from options; the folders of the runs."""
    config = folder / f"{name}.yml"
    config.write_text(json.dumps({"default": {**SMALL, **CONFIGS[name]}}))  # JSON is YAML
    small = [f"--set={key}={json.dumps(value)}" for key, value in SMALL.items()]
    for options in (["--config", str(config)], [*OPTIONS[name], *small]):
        short = ("--timesteps", "100", "--seed", "1", "--eval-freq", "0", "--eval-episodes", "1")
        save = ("--save", str(folder / name))
        environment.pyrl("td3-train", "Pendulum-v1", *options, *short, *save)
    runs = [folder / name / f"Pendulum-v1_{number}" for number in (1, 2)]
    for run in runs:
        distribution = f"distribution: {name}\n"
        require(distribution in (run / "run.yml").read_text(), f"run.yml does not name {name}")
    return [str(run) for run in runs]


def check_commands_without(
    environment: Environment, name: str, runs: list[str], tested: list[str]
) -> None:
    """Testing says what is missing and goes on; training says what to install."""
    for run, before in zip(runs, tested, strict=True):
        after = environment.pyrl("td3-test", "Pendulum-v1", run, "--episodes", "1")
        require(
            f"pip install ./plugins/{name}," in after, f"the test does not name {name}:\n{after}"
        )
        require(after.endswith(before), f"tested differently without it:\n{before}\n{after}")
        config = ("--config", str(Path(run) / "config.yml"))
        error = environment.pyrl("td3-train", "Pendulum-v1", *config, fails=True)
        require(
            f"pip install ./plugins/{name}," in error, f"the error does not name {name}:\n{error}"
        )
    print(error.strip())


def require(condition: bool, problem: str) -> None:
    """Stop with `problem` unless `condition` holds."""
    if not condition:
        sys.exit(problem)


if __name__ == "__main__":
    main()

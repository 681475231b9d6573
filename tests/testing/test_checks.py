"""What the package itself offers passes its own kit."""

import pytest
from stable_baselines3.common.callbacks import BaseCallback

from pyrl_sb3 import TD3
from pyrl_sb3.buffers import ReplayBuffer
from pyrl_sb3.noise.action import GaussianNoise
from pyrl_sb3.plugins import (
    AlgorithmSpec,
    CallbackSpec,
    EnvironmentSpec,
    NoiseSpec,
    PluginManager,
    ReplayBufferSpec,
    Settings,
    SyncCallbackSpec,
    get_plugin_manager,
    hookimpl,
)
from pyrl_sb3.testing.checks import check_component


@pytest.mark.parametrize("name", ["param", "policy", "scheduled"])
def test_noise_that_is_made_of_another_or_cannot_be_drawn(name):
    manager = get_plugin_manager()
    assert check_component(manager, manager.find("noise", f"pyrl/{name}")) == ""


def leaving(context):
    raise SystemExit(3)


class Leaving:
    @hookimpl
    def pyrl_noise_processes(self):
        yield NoiseSpec(name="leaving", target=leaving)

    @hookimpl
    def pyrl_sync_callbacks(self):
        yield SyncCallbackSpec(name="leaving", target=leaving, couples_seeds=True)


EXIT = f"SystemExit: 3 (test_checks.py:{leaving.__code__.co_firstlineno + 1})"


@pytest.mark.parametrize(
    ("kind", "told"),
    [("noise", "SystemExit: 3"), ("sync-callback", f"gives_a_callback: {EXIT}")],
)
def test_a_factory_that_exits_is_wrong_and_ends_nothing(kind, told):
    manager = PluginManager(Settings(load=frozenset()))
    manager.register(Leaving(), "acme")
    assert check_component(manager, manager.find(kind, "leaving")) == told


class Bar(BaseCallback):
    def __init__(self, code, package=""):
        exec(code, {"__package__": package})

    def _on_step(self):
        return True


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (
            "raise ImportError('You must install tqdm:\\n`pip install tqdm`')",
            "skipped: You must install tqdm: `pip install tqdm`",
        ),
        (
            "import gymnasium; raise gymnasium.error.DependencyNotInstalled('install tqdm')",
            "skipped: install tqdm",
        ),
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("from pathlib import Pth", "ImportError: cannot import name 'Pth' from 'pathlib'"),
        (
            "from . import helper",
            "ImportError: attempted relative import with no known parent package",
        ),
        (
            "from .. import helper",
            "ImportError: attempted relative import beyond top-level package",
        ),
        ("raise ImportError", "ImportError"),
        (
            "import pyrl_sb3.plugins; raise pyrl_sb3.plugins.MissingPluginError('no plugin')",
            "no plugin",
        ),
        (
            "raise RuntimeError('no display') from ImportError('install tqdm')",
            "RuntimeError: no display",
        ),
    ],
)
def test_what_says_itself_that_a_package_is_missing_is_skipped(code, told):
    params = {"code": code, "package": "json" if ".." in code else ""}

    class Bars:
        @hookimpl
        def pyrl_callbacks(self):
            yield CallbackSpec(name="bar", target=Bar, defaults=params)

    manager = PluginManager(Settings(load=frozenset()))
    manager.register(Bars(), "acme")
    assert check_component(manager, manager.find("callback", "bar")).startswith(told)


def wanting(*args, **kwargs):
    raise ImportError("install frob: pip install frob")


class Wanting:
    @hookimpl
    def pyrl_noise_processes(self):
        yield NoiseSpec(name="wanting", target=wanting)

    @hookimpl
    def pyrl_sync_callbacks(self):
        yield SyncCallbackSpec(name="wanting", target=wanting, couples_seeds=True)

    @hookimpl
    def pyrl_replay_buffers(self):
        buffer = type("WantingBuffer", (ReplayBuffer,), {"__init__": wanting})
        yield ReplayBufferSpec(name="wanting", target=buffer)

    @hookimpl
    def pyrl_algorithms(self):
        yield AlgorithmSpec(name="wanting", target=type("WantingTD3", (TD3,), {"train": wanting}))

    @hookimpl
    def pyrl_environments(self):
        yield EnvironmentSpec(name="wanting", target="wants_frob:Env")

    @hookimpl
    def pyrl_callbacks(self):
        yield CallbackSpec(name="wanting", target="forgot_frob:Callback")


@pytest.mark.parametrize(
    "kind", ["noise", "sync-callback", "replay-buffer", "algorithm", "environment"]
)
def test_components_of_all_kinds_are_skipped_for_a_package(kind, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "wants_frob.py").write_text(
        "try: import frob_nobody_has\n"
        "except ImportError as e: raise ImportError('install frob: pip install frob') from e"
    )
    manager = PluginManager(Settings(load=frozenset()))
    manager.register(Wanting(), "acme")
    told = check_component(manager, manager.find(kind, "wanting"))
    assert told == "skipped: install frob: pip install frob"


def test_modules_that_cannot_be_imported_are_wrong(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "forgot_frob.py").write_text("import frob_nobody_has")
    manager = PluginManager(Settings(load=frozenset()))
    manager.register(Wanting(), "acme")
    told = check_component(manager, manager.find("callback", "wanting"))
    assert "could not be imported" in told
    assert told.endswith("ModuleNotFoundError: No module named 'frob_nobody_has'")


def test_our_bar_is_skipped_without_the_packages_that_draw_it(monkeypatch):
    monkeypatch.setattr("stable_baselines3.common.callbacks.tqdm", None)
    manager = get_plugin_manager()
    found = check_component(manager, manager.find("callback", "pyrl/progress-bar"))
    assert found.startswith("skipped: You must install tqdm and rich")


class BareNoise(GaussianNoise):
    def __call__(self):
        raise AssertionError


class BareBuffer(ReplayBuffer):
    def _draw(self, batch_size):
        raise AssertionError


class BareAgent(TD3):
    def train(self, gradient_steps, batch_size=100):
        raise AssertionError


class BareCallback(BaseCallback):
    def __init__(self, context):
        super().__init__()

    def _on_step(self):
        raise AssertionError


class BareNotes(BaseCallback):
    def __init__(self):
        raise AssertionError

    def _on_step(self):
        return True


class Bare:
    @hookimpl
    def pyrl_noise_processes(self):
        def factory(context):
            return BareNoise((3,), 0.1, context.rng)

        yield NoiseSpec(name="bare", target=factory)

    @hookimpl
    def pyrl_replay_buffers(self):
        yield ReplayBufferSpec(name="bare", target=BareBuffer)

    @hookimpl
    def pyrl_algorithms(self):
        yield AlgorithmSpec(name="bare", target=BareAgent)

    @hookimpl
    def pyrl_sync_callbacks(self):
        yield SyncCallbackSpec(name="bare", target=BareCallback, couples_seeds=True)

    @hookimpl
    def pyrl_callbacks(self):
        yield CallbackSpec(name="bare", target=BareNotes)


@pytest.mark.parametrize(
    ("kind", "function", "where"),
    [
        ("noise", BareNoise.__call__, "draws_are_valid: "),
        (
            "replay-buffer",
            BareBuffer._draw,
            "BareBuffer of array observations, n_envs=1: samples_are_like_sb3s: ",
        ),
        ("algorithm", BareAgent.train, "learning_learns: "),
        ("sync-callback", BareCallback._on_step, "one_copy_is_left_alone: "),
        ("callback", BareNotes.__init__, ""),
    ],
)
def test_an_assertion_without_a_text_is_told_with_its_check_and_line(kind, function, where):
    manager = PluginManager(Settings(load=frozenset()))
    manager.register(Bare(), "acme")
    line = function.__code__.co_firstlineno + 1
    told = check_component(manager, manager.find(kind, "bare"))
    assert told == f"{where}AssertionError (test_checks.py:{line})"

"""One broken plugin must cost nobody else anything, and must be named when it is missed."""

import importlib
import re
import subprocess
import sys
from types import ModuleType

import gymnasium as gym
import pytest

from pyrl_sb3.plugins import (
    NoiseContext,
    NoiseSpec,
    PluginError,
    PluginManager,
    PluginWarning,
    UnknownComponentError,
    hookimpl,
    hookspecs,
    make_noise,
)

CAUSES = {
    "import-error": ("import", "ModuleNotFoundError: No module named 'module_nobody_has'"),
    "exits": ("import", "SystemExit: not on this machine"),
    "bad-signature": ("register", "register"),
    "misspelt-hook": ("register", "did you mean pyrl_noise_processes?"),
    "junk": ("collect", "{'name': 'junk'}, which is no NoiseSpec"),
    "late-generator": ("collect", "RuntimeError: too late"),
    "unfit-field": (
        "collect",
        "ValueError: noise 'bad': summary must be one line of text, not None",
    ),
    "newer-api": ("api", "written for API 99; pyrl-sb3 0."),
    "skips": ("import", "Skipped: no tests here"),
    "unprintable-error": ("import", "Unprintable: (Unprintable without a str)"),
    "unprintable-item": ("collect", "gave (Item without a repr), which is no NoiseSpec"),
}


@pytest.fixture
def manager(good, broken):
    manager = PluginManager()
    with pytest.warns(PluginWarning):
        manager.scan()
    return manager


def test_each_cause_is_recorded_and_the_sound_plugin_works(manager):
    failures = {failure.name: failure for failure in manager.failures}
    assert {name: failure.stage for name, failure in failures.items()} == {
        name: stage for name, (stage, _) in CAUSES.items()
    }
    for name, (_, cause) in CAUSES.items():
        assert cause in str(failures[name])
        assert f"plugin {name} (pyrl-{name} 1.0)" in str(failures[name])
        assert "\n" not in str(failures[name])
    assert manager.find("noise", "brown").name == "good/brown"
    # What comes before the raise of a generator is lost; what comes beside junk is not.
    names = [found.name for found in manager.components("noise") if found.plugin.name != "pyrl"]
    assert names == ["good/brown", "junk/kept"]


def test_unknown_name_repeats_the_failures(manager):
    with pytest.raises(UnknownComponentError) as raised:
        manager.find("noise", "lost")
    for _, cause in CAUSES.values():
        assert cause in str(raised.value)


def test_warning_says_how_to_silence_it(good, broken):
    with pytest.warns(PluginWarning) as warned:
        PluginManager().scan()
    messages = [str(warning.message) for warning in warned]
    assert len(messages) == len(CAUSES)
    assert any("PYRL_DISABLE_PLUGINS=exits silences this" in message for message in messages)


def test_disabled_plugins_are_never_imported(good, broken):
    disabled = ",".join(CAUSES)
    manager = PluginManager.from_environ({"PYRL_DISABLE_PLUGINS": disabled})
    manager.scan()
    assert {info.name for info in manager.disabled} == set(CAUSES)
    assert not manager.failures
    assert "pyrl_exits" not in sys.modules
    with pytest.raises(UnknownComponentError, match=r"plugin junk \(pyrl-junk 1.0\) is installed"):
        manager.find("noise", "kept")


def test_strict_raises(broken):
    with pytest.raises(PluginError, match="bad-signature"):
        PluginManager.from_environ({"PYRL_PLUGINS_STRICT": "1"}).scan()


@pytest.mark.parametrize(
    ("load", "loaded"), [("", set()), ("good", {"good"}), ("Pyrl.Good", {"good"})]
)
def test_load_list_takes_entry_point_or_distribution_names(good, broken, load, loaded):
    manager = PluginManager.from_environ({"PYRL_LOAD_PLUGINS": load})
    manager.scan()
    assert set(manager.plugins) - {"pyrl"} == loaded


def test_one_name_for_two_distributions(good, fake_dist):
    fake_dist(
        "pyrl-usurper",
        "import pyrl_sb3.plugins as p\n@p.hookimpl\ndef pyrl_callbacks():\n return []",
        entry="good",
    )
    manager = PluginManager()
    with pytest.warns(PluginWarning, match=r"taken by plugin good \(pyrl-good 1.0\)"):
        manager.scan()
    assert manager.find("noise", "good/brown").plugin.distribution == "pyrl-good"


def test_the_own_name_is_reserved(fake_dist, good):
    fake_dist("impostor", (good / "pyrl_good.py").read_text(), entry="pyrl")
    manager = PluginManager()
    with pytest.warns(PluginWarning, match="taken by plugin pyrl"):
        manager.scan()


def test_wrappers_and_empty_plugins_are_refused(pyrl_plugins):
    class Wrapper:
        @hookimpl(wrapper=True)
        def pyrl_noise_processes(self):
            return (yield)

    class OldWrapper:
        @hookimpl(hookwrapper=True)
        def pyrl_noise_processes(self):
            yield

    class Empty:
        pass

    for wrapper in (Wrapper(), OldWrapper()):
        with pytest.raises(PluginError, match="these hooks take none"):
            pyrl_plugins.register(wrapper, "wrapper")
    with pytest.raises(PluginError, match="implements no hook"):
        pyrl_plugins.register(Empty(), "empty")
    assert set(pyrl_plugins.plugins) == {"pyrl"}
    assert pyrl_plugins.find("noise", "normal").name == "pyrl/normal"


UNMARKED = """
import gymnasium as gym
gym.register("Unmarked-v0", "gymnasium.envs.classic_control.pendulum:PendulumEnv")

def pyrl_noise_processes():
    return []
"""


@pytest.mark.parametrize("imported", [True, False], ids=["imported before", "fresh"])
def test_a_hook_without_its_mark_is_named_whatever_else_a_module_does(
    tmp_path, monkeypatch, imported
):
    (tmp_path / "unmarked.py").write_text(UNMARKED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "unmarked", raising=False)
    if imported:
        importlib.import_module("unmarked")
    manager = PluginManager.from_environ({"PYRL_PLUGIN_MODULES": "unmarked"})
    try:
        with pytest.raises(PluginError, match="implements no hook; is @hookimpl missing"):
            manager.scan()
    finally:
        sys.modules.pop("unmarked", None)
        del gym.registry["Unmarked-v0"]


def test_a_hook_without_its_mark_is_named_beside_one_that_has_it(pyrl_plugins):
    class Half:
        @hookimpl
        def pyrl_noise_processes(self):
            return []

        def pyrl_callbacks(self):
            return []

    with pytest.raises(PluginError, match="its pyrl_callbacks lacks @hookimpl"):
        pyrl_plugins.register(Half(), "half")
    assert set(pyrl_plugins.plugins) == {"pyrl"}


def test_what_is_called_as_a_hook_and_is_no_function_is_none(pyrl_plugins):
    """As `acme/pyrl_callbacks.py` is for the package `acme`."""

    class Package:
        pyrl_callbacks = ModuleType("acme.pyrl_callbacks")

        @hookimpl
        def pyrl_noise_processes(self):
            return []

    pyrl_plugins.register(Package(), "acme")
    assert pyrl_plugins.plugins["acme"].hooks == ("pyrl_noise_processes",)


def test_what_is_imported_or_inherited_is_no_hook_without_its_mark(pyrl_plugins):
    class Base:
        def pyrl_callbacks(self):
            return []

    class Derived(Base):
        @hookimpl
        def pyrl_noise_processes(self):
            return []

    @hookimpl
    def marked():
        return []

    pyrl_plugins.register(Derived(), "derived")
    module = ModuleType("acme")
    module.pyrl_callbacks = hookspecs.pyrl_callbacks  # to document it, say
    module.pyrl_noise_processes = marked
    pyrl_plugins.register(module, "acme")
    for name in ("derived", "acme"):
        assert pyrl_plugins.plugins[name].hooks == ("pyrl_noise_processes",)


def test_optional_hooks_of_other_versions_are_accepted(pyrl_plugins):
    class Future:
        @hookimpl(optionalhook=True)
        def pyrl_teapots(self):
            return []

        @hookimpl
        def pyrl_noise_processes(self):
            return [NoiseSpec(name="brown", target="m:A")]

    pyrl_plugins.register(Future(), "future")
    assert pyrl_plugins.find("noise", "brown").name == "future/brown"


def test_a_name_given_twice_counts_once(pyrl_plugins):
    class Twice:
        @hookimpl
        def pyrl_noise_processes(self):
            yield NoiseSpec(name="brown", target="m:A")
            yield NoiseSpec(name="red", target="m:B", aliases=("brown",))

    with pytest.raises(PluginError, match="gave the name 'brown' twice"):
        pyrl_plugins.register(Twice(), "twice")
    assert pyrl_plugins.find("noise", "brown").spec.target == "m:A"


@pytest.mark.parametrize("entry", ["my plugin", "a/b", "a:b", "bär", "-"])
def test_names_that_nobody_could_use_are_refused(good, fake_dist, entry):
    fake_dist("acme", (good / "pyrl_good.py").read_text(), entry=entry)
    manager = PluginManager()
    with pytest.warns(PluginWarning, match="is not lower-case words joined by hyphens"):
        manager.scan()
    (failure,) = manager.failures
    assert failure.stage == "register"
    assert "\n" not in str(failure)
    assert manager.find("noise", "brown").name == "good/brown"


@pytest.mark.parametrize("disabled", ["", "acme"])
def test_an_entry_point_that_names_no_module_is_a_failure_like_others(good, fake_dist, disabled):
    site = fake_dist("acme", "")
    (info,) = site.glob("acme-*.dist-info")
    (info / "entry_points.txt").write_text("[pyrl_sb3]\nacme = pyrl-acme.plugin\n")
    manager = PluginManager.from_environ({"PYRL_DISABLE_PLUGINS": disabled})
    if disabled:
        manager.scan()
        assert [info.name for info in manager.disabled] == ["acme"]
    else:
        with pytest.warns(PluginWarning, match=r"failed at import: .*'pyrl-acme.plugin' names no"):
            manager.scan()
    assert manager.find("noise", "brown").name == "good/brown"


def test_ctrl_c_while_a_plugin_is_imported_is_one(fake_dist):
    fake_dist("acme", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        PluginManager().scan()


def test_order_does_not_depend_on_the_file_system(fake_dist, good):
    source = (good / "pyrl_good.py").read_text()
    for name in ("zeta", "alpha", "mid"):
        fake_dist(name, source)
    manager = PluginManager()
    manager.scan()
    assert list(manager.plugins) == ["pyrl", "alpha", "good", "mid", "zeta"]


def test_trace_names_plugins_and_times(good, capsys):
    PluginManager.from_environ({"PYRL_TRACE_PLUGINS": "1"}).scan()
    assert re.search(
        r"\[plugins\] good \(pyrl-good 1.0\): pyrl_good in [\d.]+ ms", capsys.readouterr().err
    )


def test_discovery_loads_neither_torch_nor_sb3(good):
    code = (
        "import sys; from pyrl_sb3.plugins import get_plugin_manager as g; g().components();"
        "assert g().find('noise', 'brown'); g().find('algorithm', 'sac');"
        "heavy = ('torch', 'stable_baselines3', 'gymnasium', 'numpy');"
        "print([module for module in heavy if module in sys.modules])"
    )
    env = {"PYTHONPATH": str(good), "PATH": ""}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert run.stdout == "[]\n", run.stderr


def test_training_works_beside_broken_plugins(manager):
    import gymnasium as gym
    import numpy as np
    from stable_baselines3 import TD3

    env = gym.make("Pendulum-v1")
    context = NoiseContext(action_space=env.action_space, rng=np.random.default_rng(0))
    noise = make_noise(manager, "brown", {}, context)
    small = {"buffer_size": 50, "policy_kwargs": {"net_arch": [4]}}
    model = TD3("MlpPolicy", env, action_noise=noise, learning_starts=10, seed=0, **small)
    assert model.learn(20).num_timesteps == 20


@pytest.mark.parametrize(
    ("given", "kind"), [(None, "NoneType"), (NoiseSpec(name="a", target="a:B"), "NoiseSpec")]
)
def test_a_hook_that_forgets_to_yield_is_named(pyrl_plugins, given, kind):
    class Plugin:
        @hookimpl
        def pyrl_noise_processes(self):
            return given

    message = f"TypeError: pyrl_noise_processes gives {kind}, not specs to iterate"
    with pytest.raises(PluginError, match=message):
        pyrl_plugins.register(Plugin(), "acme")

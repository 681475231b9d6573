"""From names to components."""

import functools
import json
import sys
import zipfile

import pytest

from pyrl_sb3 import __version__
from pyrl_sb3.plugins import (
    AlgorithmSpec,
    AmbiguousComponentError,
    ComponentLoadError,
    ComponentParameterError,
    EnvironmentSpec,
    NoiseSpec,
    PluginManager,
    PluginWarning,
    PolicySpec,
    ReplayBufferSpec,
    SyncCallbackSpec,
    UnknownComponentError,
    apply_options,
    hookimpl,
    saved,
)
from pyrl_sb3.plugins.records import MEMBER
from pyrl_sb3.plugins.signature import parameters


class Noises:
    """A plugin object with any noises."""

    def __init__(self, *specs):
        self.specs = specs

    @hookimpl
    def pyrl_noise_processes(self):
        return self.specs


def noise(name, target="pyrl_sb3.noise.action:gaussian", **more):
    return NoiseSpec(name=name, target=target, **more)


def test_builtins_go_through_the_hooks(pyrl_plugins):
    info = pyrl_plugins.plugins["pyrl"]
    assert {"pyrl_noise_processes", "pyrl_replay_buffers", "pyrl_algorithms"} <= set(info.hooks)


def test_every_builtin_target_can_be_loaded(pyrl_plugins):
    for found in pyrl_plugins.components():
        assert callable(pyrl_plugins.load(found.kind, found.name)), found.name


@pytest.mark.parametrize("ref", ["brown", "mud", "acme/brown", "acme/mud"])
def test_bare_qualified_and_alias(pyrl_plugins, ref):
    pyrl_plugins.register(Noises(noise("brown", aliases=("mud",))), "acme")
    assert pyrl_plugins.find("noise", ref).name == "acme/brown"


def test_path_to_an_attribute(pyrl_plugins):
    from pyrl_sb3.noise.action import GaussianNoise

    ref = "pyrl_sb3.noise.action:GaussianNoise.__call__"
    assert pyrl_plugins.load("noise", ref) is GaussianNoise.__call__
    assert pyrl_plugins.find("noise", ref).name == ref


def test_paths_declare_nothing(pyrl_plugins):
    sync = pyrl_plugins.find("sync-callback", "m:A").spec
    assert isinstance(sync, SyncCallbackSpec)
    assert sync.couples_seeds
    buffer = pyrl_plugins.find("replay-buffer", "m:A").spec
    assert isinstance(buffer, ReplayBufferSpec)
    assert buffer.observation_kinds == {"array", "dict"}


def test_objects_stand_for_themselves(pyrl_plugins):
    assert pyrl_plugins.load("noise", noise) is noise


def test_builtin_wins_with_a_warning(pyrl_plugins):
    pyrl_plugins.register(Noises(noise("ou")), "acme")
    with pytest.warns(PluginWarning, match="'ou' means 'pyrl/ou'.*acme/ou"):
        assert pyrl_plugins.find("noise", "ou").name == "pyrl/ou"
    assert pyrl_plugins.find("noise", "ou").name == "pyrl/ou"  # which warns once
    assert pyrl_plugins.find("noise", "acme/ou").name == "acme/ou"


def test_two_plugins_clash_only_over_the_shared_name(pyrl_plugins):
    pyrl_plugins.register(Noises(noise("brown"), noise("red")), "acme")
    pyrl_plugins.register(Noises(noise("brown")), "bolt")
    assert pyrl_plugins.find("noise", "red").name == "acme/red"
    assert pyrl_plugins.find("noise", "bolt/brown").name == "bolt/brown"
    with pytest.raises(AmbiguousComponentError, match="write acme/brown, bolt/brown"):
        pyrl_plugins.find("noise", "brown")


@pytest.mark.parametrize(
    ("kind", "ref", "message"),
    [
        (
            "noise",
            "norml",
            r"unknown noise 'norml'; available: .*pyrl/normal, pyrl/ou.*; did you mean normal\?",
        ),
        ("noise", "pyrl/norml", r"; did you mean pyrl/normal\?"),
        ("noise", "OUU", r"; did you mean ou\?"),
        (
            "noise",
            "pink",
            "; it is part of pyrl-colored-noise: pip install ./plugins/pyrl-colored-noise, in a cl",
        ),
        ("noise", "colored-noise/pink", "pip install ./plugins/pyrl-colored-noise"),
        ("replay-buffer", "prioritized-her", "pip install ./plugins/pyrl-prioritized-replay"),
        (
            "sync-callback",
            "population",
            "available: pyrl/best, .*pip install ./plugins/pyrl-population-sync",
        ),
        ("nois", "pink", r"unknown kind of component 'nois'.*; did you mean noise\?"),
    ],
)
def test_unknown_names(pyrl_plugins, kind, ref, message):
    with pytest.raises(UnknownComponentError, match=message):
        pyrl_plugins.find(kind, ref)


def test_what_another_plugin_lacks_is_no_part_of_ours(pyrl_plugins):
    with pytest.raises(UnknownComponentError) as caught:
        pyrl_plugins.find("noise", "acme/pink")
    assert "pip install" not in str(caught.value)


def test_builtins_are_found_without_looking_for_plugins(monkeypatch):
    def scan(self):
        raise AssertionError("scanned")

    manager, path = PluginManager(), "pyrl_sb3.noise.action:gaussian"
    monkeypatch.setattr(PluginManager, "scan", scan)
    assert manager.find("noise", "pyrl/normal").name == "pyrl/normal"
    assert manager.find("noise", path).name == path
    for ref in ("normal", "acme/normal"):
        with pytest.raises(AssertionError, match="scanned"):
            manager.find("noise", ref)


def test_missing_dependency_of_a_target(pyrl_plugins):
    spec = noise("brown", "module_nobody_has:x", install_hint="pip install acme[brown]")
    pyrl_plugins.register(Noises(spec), "acme")
    with pytest.raises(
        ComponentLoadError,
        match=r"'acme/brown' from plugin acme .*(?s:.*)hint: pip install acme\[b",
    ):
        pyrl_plugins.load("noise", "brown")


def test_deprecated_components_warn_on_use(pyrl_plugins):
    pyrl_plugins.register(Noises(noise("brown", deprecated="use red")), "acme")
    with pytest.warns(PluginWarning, match="'acme/brown' is deprecated: use red"):
        pyrl_plugins.find("noise", "brown")


def test_unregister(pyrl_plugins):
    pyrl_plugins.register(Noises(noise("brown")), "acme")
    pyrl_plugins.unregister("acme")
    assert "acme" not in pyrl_plugins.plugins
    with pytest.raises(UnknownComponentError):
        pyrl_plugins.find("noise", "brown")
    pyrl_plugins.register(Noises(noise("brown")), "acme")
    assert pyrl_plugins.find("noise", "brown")


def test_parameters_are_checked_and_defaults_filled_in(pyrl_plugins):
    ou = "pyrl_sb3.noise.action:ornstein_uhlenbeck"
    pyrl_plugins.register(Noises(noise("slow", ou, defaults={"theta": 0.01})), "acme")
    assert pyrl_plugins.check_params("noise", "slow", {"sigma": 1}) == {"theta": 0.01, "sigma": 1}
    assert pyrl_plugins.check_params("noise", "slow", {"theta": 1}) == {"theta": 1}
    message = (
        r"noise 'acme/slow' has no parameter 'sgma'; it takes sigma, theta; did you mean sigma\?"
    )
    with pytest.raises(ComponentParameterError, match=message):
        pyrl_plugins.check_params("noise", "slow", {"sgma": 1})
    several = "needs the parameters 'sigma', 'noise'"
    pyrl_plugins.register(Noises(noise("two", lambda context, sigma, noise: None)), "two")
    with pytest.raises(ComponentParameterError, match=several):
        pyrl_plugins.check_params("noise", "two", {})
    with pytest.raises(ComponentParameterError, match="no parameter 'context'"):
        pyrl_plugins.check_params("noise", "slow", {"context": 1})


class Parent:
    def __init__(self, buffer_size, env, capacity, beta=0.5): ...


class Child(Parent):
    def __init__(self, *args, alpha, **kwargs): ...


def test_forwarded_keywords_are_those_of_the_parents(pyrl_plugins):
    ref = f"{__name__}:Child"
    check = pyrl_plugins.check_params
    assert check("replay-buffer", ref, {"alpha": 1, "beta": 2}) == {"alpha": 1, "beta": 2}
    with pytest.raises(
        ComponentParameterError, match=r"it takes alpha, beta, capacity; did you mean beta\?"
    ):
        check("replay-buffer", ref, {"alpha": 1, "betta": 2})
    with pytest.raises(ComponentParameterError, match="needs the parameter 'alpha'"):
        check("replay-buffer", ref, {})
    with pytest.raises(ComponentParameterError, match="'env' is set by the library"):
        check("replay-buffer", ref, {"alpha": 1, "env": 2})


def test_parameters_of_parents_keep_their_defaults():
    known, anything = parameters(Child)
    assert not anything
    assert known["beta"].default == 0.5
    assert known["capacity"].default is None  # the child may pass it itself


class Bare:
    def __init__(self, env): ...


class Keeping(Bare):
    def __init__(self, env, alpha=1, **options): ...


class Rootless:
    def __init__(self, env, alpha=1, **options): ...


@pytest.mark.parametrize("kind", [Keeping, Rootless])
def test_keywords_that_no_parent_could_take_are_the_class_own(kind):
    known, anything = parameters(kind, leading=1)
    assert set(known) == {"alpha"}
    assert anything


def test_modules_and_files_from_the_command_line(tmp_path, good, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    mine = tmp_path / "my_plugin.py"
    mine.write_text((good / "pyrl_good.py").read_text().replace("brown", "mine"))
    other = tmp_path / "othermod.py"
    other.write_text((good / "pyrl_good.py").read_text().replace("brown", "other"))
    environ = {}
    apply_options(environ, plugins=["no:good", str(mine), "othermod"])
    manager = PluginManager.from_environ(environ)
    names = [found.name for found in manager.components("noise") if found.plugin.name != "pyrl"]
    assert names == ["my-plugin/mine", "othermod/other"]
    apply_options(environ, plugins=["othermod", "no:good"])  # again, which changes nothing
    assert environ["PYRL_PLUGIN_MODULES"] == f"{mine},othermod"
    apply_options(environ, no_plugins=True)
    assert PluginManager.from_environ(environ).settings.load == frozenset()


KICKING = """
from pyrl_sb3.plugins import NoiseSpec, hookimpl

@hookimpl
def pyrl_noise_processes():
    yield NoiseSpec(name="kick", target="kick_beside:Kick")
"""


def _saved_with_kick(folder):
    record = {"kind": "noise", "name": "small-kick/kick", "target": "kick_beside:Kick"}
    with zipfile.ZipFile(folder / "model.zip", "w") as archive:
        archive.writestr(MEMBER, json.dumps([record]))
    return folder / "model.zip"


@pytest.mark.parametrize(
    ("files", "named", "found"),
    [("small_kick/plugin.py", "small_kick.plugin", "."), ("parts/kicks.py", None, "parts")],
)
def test_what_lies_beside_a_named_plugin_is_found(tmp_path, monkeypatch, files, named, found):
    # A console script has the folder that it is in on the path, and not the current one.
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / files).parent.mkdir()
    (tmp_path / files).write_text(KICKING)
    (tmp_path / found / "kick_beside.py").write_text("class Kick: ...")
    before = list(sys.path)
    try:
        manager = PluginManager.from_environ({"PYRL_PLUGIN_MODULES": named or files})
        monkeypatch.setattr(saved, "get_plugin_manager", lambda: manager)
        assert saved.check_for_acting(_saved_with_kick(tmp_path)) == []
        assert manager.load("noise", "kick").__module__ == "kick_beside"
    finally:
        for module in ("kick_beside", "small_kick.plugin", "small_kick", "kicks"):
            sys.modules.pop(module, None)
    # Behind all others, so that nothing installed is hidden, and once.
    assert sys.path == [*before, str((tmp_path / found).resolve())]


def test_naming_an_installed_plugin_once_more_is_harmless(good):
    manager = PluginManager.from_environ({"PYRL_PLUGIN_MODULES": "pyrl_good"})
    assert manager.find("noise", "brown").name == "good/brown"
    assert not manager.failures


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "Pink", "target": "m:A"}, "name 'Pink'"),
        ({"name": "pink_noise", "target": "m:A"}, "name 'pink_noise'"),
        ({"name": "pink", "target": "m.A"}, "does not read 'package.module:Attribute'"),
        ({"name": "pink", "target": 3}, "neither a string nor callable"),
        ({"name": "pink", "target": "m:A", "aliases": "red"}, "a tuple of names"),
        ({"name": "pink", "target": "m:A", "aliases": ("Red",)}, "name 'Red'"),
        ({"aliases": None}, "a tuple of names, not None"),
        ({"summary": None}, "noise 'pink': summary must be one line of text, not None"),
        ({"summary": "one\ntwo"}, r"summary must be one line of text, not 'one\\ntwo'"),
        ({"defaults": None}, "defaults must be a dictionary by parameter, not None"),
        ({"defaults": [1]}, r"defaults must be a dictionary by parameter, not \[1\]"),
        ({"defaults": {1: 2}}, "defaults must be a dictionary by parameter"),
        ({"deprecated": True}, "deprecated must be one line of text, not True"),
        ({"install_hint": 3}, "install_hint must be one line of text, not 3"),
        ({"scale": 3}, "scale must be the name of a parameter or None, not 3"),
        ({"vectorized": "no"}, "vectorized must be True or False, not 'no'"),
    ],
)
def test_specs_check_themselves(fields, message):
    with pytest.raises(ValueError, match=message) as raised:
        NoiseSpec(**{"name": "pink", "target": "m:A", **fields})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("spec", "fields", "message"),
    [
        (SyncCallbackSpec, {"couples_seeds": "no"}, "couples_seeds must be True or False"),
        (ReplayBufferSpec, {"needs": None}, "needs None is not a set"),
        (ReplayBufferSpec, {"observation_kinds": [[]]}, "is not a set of array, dict"),
        (PolicySpec, {"algorithms": "sac"}, "algorithms 'sac' is not a set of words"),
        (AlgorithmSpec, {"off_policy": 1}, "off_policy must be True or False, not 1"),
        (AlgorithmSpec, {"policy": 3}, "policy 3 is no name, no class and not None"),
        (EnvironmentSpec, {"max_episode_steps": 0}, "a number above 0 or None, not 0"),
        (EnvironmentSpec, {"kwargs": ()}, "kwargs must be a dictionary"),
    ],
)
def test_fields_of_every_kind_are_checked(spec, fields, message):
    with pytest.raises(ValueError, match=f"{spec.kind} 'x': .*{message}"):
        spec(**{"name": "x", "target": "m:A", **fields})


def test_targets_may_be_partials_and_objects(pyrl_plugins):
    class Factory:
        def __call__(self, context):
            return None

    partial = functools.partial(parameters, leading=1)
    pyrl_plugins.register(Noises(noise("part", partial), noise("whole", Factory())), "acme")
    part, whole = (pyrl_plugins.find("noise", name).record() for name in ("part", "whole"))
    assert part["target"] == "pyrl_sb3.plugins.signature:parameters"
    assert whole["target"].endswith("<locals>.Factory")


def test_what_is_kept_of_a_component_says_where_it_is_from(pyrl_plugins):
    record = pyrl_plugins.find("noise", "normal").record({"sigma": 1})
    assert (record["name"], record["params"]) == ("pyrl/normal", {"sigma": 1})
    assert (record["distribution"], record["version"]) == ("pyrl-sb3", __version__)
    record = pyrl_plugins.find("noise", "pyrl_sb3.noise.action:gaussian").record()
    assert (record["distribution"], record["version"]) == (None, None)


@pytest.mark.parametrize("ref", ["a:b/c", "a:b:c", ":", "no module:A"])
def test_what_is_no_path_is_told(pyrl_plugins, ref):
    with pytest.raises(UnknownComponentError, match=r"does not read 'package\.module:Attribute'"):
        pyrl_plugins.find("noise", ref)


def test_words_are_checked():
    with pytest.raises(ValueError, match=r"needs.*is not a set of env, importance-weights"):
        ReplayBufferSpec(name="x", target="m:A", needs=frozenset({"gpu"}))
    with pytest.raises(ValueError, match="observation_kinds 'dict' is not a set"):
        ReplayBufferSpec(name="x", target="m:A", observation_kinds="dict")
    with pytest.raises(ValueError, match=r"config 'my.yml' is no Path"):
        AlgorithmSpec(name="x", target="m:A", config="my.yml")


def test_coupling_has_no_default():
    with pytest.raises(TypeError, match="couples_seeds"):
        SyncCallbackSpec(name="x", target="m:A")

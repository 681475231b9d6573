"""`pyrl plugins` and `pyrl list`."""

import json
import os
import re
import subprocess
import sys
import warnings

import pytest
import typer
from typer.testing import CliRunner

from pyrl_sb3.cli.app import run as run_pyrl
from pyrl_sb3.cli.kinds import KINDS
from pyrl_sb3.cli.plugin_options import configure, plain_warnings
from pyrl_sb3.cli.plugins import app, list_components
from pyrl_sb3.config.algorithms import algorithm_class, policy_meant
from pyrl_sb3.plugins import PluginError, PluginWarning, UnknownComponentError, get_plugin_manager
from pyrl_sb3.testing import checks

CAUSES = [
    "import-error (pyrl-import-error 1.0) failed at import: ModuleNotFoundError",
    "exits (pyrl-exits 1.0) failed at import: SystemExit: not on this machine",
    "bad-signature (pyrl-bad-signature 1.0) failed at register: PluginValidationError",
    "misspelt-hook (pyrl-misspelt-hook 1.0) failed at register: ValueError: unknown hook",
    "junk (pyrl-junk 1.0) failed at collect: TypeError",
    "late-generator (pyrl-late-generator 1.0) failed at collect: RuntimeError: too late",
    "unfit-field (pyrl-unfit-field 1.0) failed at collect: ValueError: noise 'bad': summary must",
    "newer-api (pyrl-newer-api 1.0) failed at api: ValueError: it is written for API 99",
    "skips (pyrl-skips 1.0) failed at import: Skipped: no tests here",
    "unprintable-error (pyrl-unprintable-error 1.0) failed at import: Unprintable: (Unprintable",
    "unprintable-item (pyrl-unprintable-item 1.0) failed at collect: TypeError: pyrl_noise_proc",
]


def run(*arguments, code=0):
    result = CliRunner().invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def run_list(*arguments):
    listing = typer.Typer()
    listing.command()(list_components)
    result = CliRunner().invoke(listing, arguments)
    if result.exception:
        raise result.exception
    return result.output


def test_list(good):
    plugin, distribution, components = "good", "pyrl-good 1.0", "good/brown"
    assert run("list").splitlines()[1].split(maxsplit=1)[0] == plugin
    assert distribution in run("list")
    assert components in run("list")
    assert "pyrl/ou" not in run("list")
    assert "pyrl/ou" in run("list", "--all")
    assert run("list", "--requirements") == "pyrl-good==1.0\n"
    assert "good" in run("list", "--kind", "noises")
    assert "good" not in run("list", "--kind", "buffers")
    [listed] = json.loads(run("list", "--json"))["plugins"]
    assert (listed["name"], listed["distribution"], listed["version"]) == (
        "good",
        "pyrl-good",
        "1.0",
    )
    assert listed["components"][0]["name"] == "good/brown"


def test_list_names_the_broken_ones(good, broken):
    output = run("list")
    assert "failed at api" in output
    assert "pyrl plugins doctor" in output
    assert len(json.loads(run("list", "--json"))["failures"]) == len(CAUSES)


PARTLY = """
from pyrl_sb3.noise.action import gaussian
from pyrl_sb3.plugins import NoiseSpec, SyncCallbackSpec, hookimpl

@hookimpl
def pyrl_noise_processes():
    for name in ("same", "more"):
        yield NoiseSpec(name=name, target=gaussian)

@hookimpl
def pyrl_sync_callbacks():
    yield SyncCallbackSpec(name="same", target=gaussian, couples_seeds=True)

@hookimpl
def pyrl_callbacks():
    return ["junk", "junk"]

@hookimpl
def pyrl_policies():
    return None
"""


def test_list_says_once_what_failed_of_which_distribution_and_kinds_of_components(fake_dist):
    fake_dist("acme", PARTLY)
    fake_dist("gone", "import gone_too")
    lines = [re.split("  +", line) for line in run("list").splitlines()[1:-1]]
    assert lines == [
        [
            "acme",
            "acme 1.0",
            "failed at collect",
            "noise acme/more, acme/same; sync-callback acme/same",
        ],
        ["gone", "gone 1.0", "failed at import"],
    ]
    # Also where there is nothing of the kind
    lines = [re.split("  +", line) for line in run("list", "--kind", "envs").splitlines()[1:-1]]
    assert lines == [
        ["acme", "acme 1.0", "failed at collect"],
        ["gone", "gone 1.0", "failed at import"],
    ]


def test_doctor_names_each_cause_with_its_traceback(good, broken):
    output = run("doctor", code=1)
    for cause in CAUSES:
        assert cause in output
    assert "ok      good (pyrl-good 1.0), imported in" in output
    assert 'raise RuntimeError("too late")' in output
    report = json.loads(run("doctor", "--json", code=1))
    assert len(report["failures"]) == len(CAUSES)


def test_doctor_names_them_all_also_where_a_plugin_that_fails_is_an_error(
    good, broken, monkeypatch
):
    monkeypatch.setenv("PYRL_PLUGINS_STRICT", "1")
    output = run("doctor", code=1)
    for cause in CAUSES:
        assert cause in output
    get_plugin_manager.cache_clear()
    with pytest.raises(PluginError, match="failed at"):
        run("list")


def test_doctor_is_content_and_tells_of_shared_names(good, fake_dist):
    fake_dist("acme", (good / "pyrl_good.py").read_text())
    assert "noise brown is provided as acme/brown, good/brown" in run("doctor")


def test_show(good):
    output = run("show", "good")
    assert "noise good/brown" in output
    assert "parameters: sigma=0.5" in output
    assert "target: pyrl_sb3.noise.action:gaussian" in output
    [shown] = json.loads(run("show", "good/brown", "--json"))
    assert shown["parameters"] == {"sigma": "0.5"}
    with pytest.raises(
        UnknownComponentError, match="no plugin or component 'bad'; plugins: good, pyrl"
    ):
        run("show", "bad")


def test_the_documentation_of_a_component_is_its_own(fake_dist):
    fake_dist("acme", SILENT)
    [shown] = json.loads(run("show", "acme/silent", "--json"))
    assert shown["documentation"] == ""


SILENT = """
from stable_baselines3.common.noise import ActionNoise
from pyrl_sb3.plugins import NoiseSpec, hookimpl

class Silent(ActionNoise):
    def __init__(self, context):
        super().__init__()

@hookimpl
def pyrl_noise_processes():
    yield NoiseSpec(name="silent", target="acme:Silent", summary="none")
"""


def test_check(good, fake_dist):
    assert run("check", "good") == "ok     noise good/brown\n"
    fake_dist("acme", (good / "pyrl_good.py").read_text().replace(":gaussian", ":typo"))
    get_plugin_manager.cache_clear()
    assert "FAILED noise acme/brown: " in run("check", "acme", code=1)


def test_plugins_are_found_by_the_names_of_their_entry_points(good, fake_dist):
    fake_dist("acme", (good / "pyrl_good.py").read_text(), entry="Foo_Bar.baz")
    for name in ("Foo_Bar.baz", "foo-bar-baz", "Foo_Bar.baz/brown"):
        assert "noise foo-bar-baz/brown" in run("show", name)
    assert run("check", "Foo_Bar.baz") == "ok     noise foo-bar-baz/brown\n"


def test_show_goes_on_after_what_cannot_be_imported(good, fake_dist):
    source = (good / "pyrl_good.py").read_text()
    lost = source.replace("    yield", "    yield NoiseSpec(name='lost', target='m:A')\n    yield")
    fake_dist("acme", lost)
    output = run("show", "acme")
    assert "noise acme/brown\n" in output
    assert "  problem: noise 'acme/lost' from plugin acme (acme 1.0) could not be impo" in output
    brown, lost = json.loads(run("show", "acme", "--json"))
    assert brown["parameters"] == {"sigma": "0.5"}
    assert "could not be imported" in lost["problem"]


def test_list_without_a_kind_lists_the_kinds():
    assert run_list().splitlines() == list(KINDS)
    assert json.loads(run_list("--json")) == list(KINDS)


def test_what_a_plugin_prints_is_no_part_of_the_answer(good, fake_dist):
    fake_dist("acme", "print('hello')\n" + (good / "pyrl_good.py").read_text())
    assert json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)["failures"] == []


def test_show_of_a_plugin_that_offers_nothing(fake_dist):
    empty = "from pyrl_sb3.plugins import hookimpl\n@hookimpl\ndef pyrl_callbacks(): return []"
    fake_dist("acme", empty)
    assert run("show", "acme") == "acme (acme 1.0) offers nothing\n"
    assert json.loads(run("show", "acme", "--json")) == []


ODD = """
import functools
from pyrl_sb3.plugins import NoiseSpec, hookimpl

class Factory:
    def __call__(self, context, sigma=0.1):
        pass

@hookimpl
def pyrl_noise_processes():
    yield NoiseSpec(name="part", target=functools.partial(Factory(), sigma=0.3))
    yield NoiseSpec(name="whole", target=Factory())
"""


def test_targets_of_any_kind_are_shown_and_listed(fake_dist):
    fake_dist("acme", ODD)
    part, whole = json.loads(run("show", "acme", "--json"))
    assert part["parameters"] == {"sigma": "0.3"}
    assert whole["target"] == "acme:Factory"
    assert json.loads(run("list", "--all", "--json"))["failures"] == []


NEEDY = """
from stable_baselines3.common.callbacks import BaseCallback
from pyrl_sb3.noise.action import GaussianNoise
from pyrl_sb3.plugins import CallbackSpec, EngineSpec, NoiseSpec, hookimpl

def noise(context, *, sigma, mu, theta=1):
    return GaussianNoise(context.action_space.shape, sigma, context.rng)

class Raises(BaseCallback):
    def __init__(self):
        raise RuntimeError("no\\nlicence")

    def _on_step(self):
        return True

class Needs(BaseCallback):
    def __init__(self, path):
        super().__init__()

class NoCallback:
    pass

class NoEngine:
    def cores(self):
        return 1

@hookimpl
def pyrl_noise_processes():
    yield NoiseSpec(name="needy", target=noise)

@hookimpl
def pyrl_callbacks():
    for cls in (Raises, Needs, NoCallback):
        yield CallbackSpec(name=cls.__name__.lower(), target=cls)

@hookimpl
def pyrl_engines():
    yield EngineSpec(name="none", target=NoEngine)
    yield EngineSpec(name="number", target="acme:NUMBER")

NUMBER = 3
"""


def test_check_of_callbacks_and_engines_and_what_needs_parameters(fake_dist):
    fake_dist("acme", NEEDY)
    assert run("check", "acme", code=1).splitlines() == [
        "skipped noise acme/needy: needs sigma, mu",
        "skipped callback acme/needs: needs path",
        "FAILED callback acme/nocallback: NoCallback is no BaseCallback of SB3's",
        "FAILED callback acme/raises: RuntimeError: no licence",
        "FAILED engine acme/none: NoEngine has no address, close, start",
        "FAILED engine acme/number: engine 'acme/number' from plugin acme (acme 1.0) could not be "
        "imported (acme:NUMBER): TypeError: 3 cannot be called",
    ]
    results = json.loads(run("check", "acme", "--json", code=1))
    assert results["noise acme/needy"] == "skipped: needs sigma, mu"


def test_each_check_is_told_of_before_the_next(fake_dist, monkeypatch):
    fake_dist("acme", NEEDY)
    events = []
    monkeypatch.setattr(checks, "check_component", lambda *_: events.append("check") or "")
    monkeypatch.setattr(typer, "echo", lambda line: events.append(line[:2]))
    run("check", "acme")
    assert len(events) > 4
    assert events == ["check", "ok"] * (len(events) // 2)


def test_what_is_only_skipped_has_not_failed(fake_dist):
    fake_dist("acme", NEEDY.split("@hookimpl\ndef pyrl_callbacks")[0])
    assert run("check", "acme") == "skipped noise acme/needy: needs sigma, mu\n"


def test_check_tells_once_what_failed(broken):
    assert run("check", "unfit-field", code=1) == (
        "FAILED plugin unfit-field (pyrl-unfit-field 1.0): failed at collect: ValueError: "
        "noise 'bad': summary must be one line of text, not None\n"
    )


ALGORITHMS = """
from pathlib import Path
from stable_baselines3 import TD3
from pyrl_sb3.plugins import AlgorithmSpec, hookimpl

class Never(TD3):
    def train(self, gradient_steps, batch_size=64):
        pass

CONFIG = Path(__file__).with_name("typo.yml")
CONFIG.write_text("default: {n_timesteps: 9}\\nPendulum-v1: {batch_sise: 3}")

@hookimpl
def pyrl_algorithms():
    yield AlgorithmSpec(name="fine", target=TD3, defaults={"learning_starts": 1000})
    yield AlgorithmSpec(name="never", target=Never)
    yield AlgorithmSpec(name="config", target=TD3, config=CONFIG)
    yield AlgorithmSpec(name="policy", target=TD3, policy="pyrl/tdd3")
"""


def test_check_of_algorithms(fake_dist):
    fake_dist("acme", ALGORITHMS)
    config, fine, never, policy = run("check", "acme", code=1).splitlines()
    assert config.startswith("FAILED algorithm acme/config: ")
    assert config.endswith("batch_sise: TD3 has no such setting; did you mean batch_size?")
    assert fine == "ok     algorithm acme/fine"
    assert never.endswith("acme/never: 40 steps of learning change nothing")
    assert "did you mean pyrl/td3?" in policy


WITH_HINDSIGHT = """
from pathlib import Path
from stable_baselines3 import TD3
from pyrl_sb3.plugins import AlgorithmSpec, hookimpl

@hookimpl
def pyrl_algorithms():
    config = Path(__file__).with_name("my.yml")
    yield AlgorithmSpec(name="my", target=TD3, serves=frozenset({"env"}), config=config)
"""


def test_check_reads_the_file_also_as_the_command_with_hindsight_does(fake_dist):
    config = fake_dist("acme", WITH_HINDSIGHT) / "my.yml"
    config.write_text("default: {n_timesteps: 9, replay_buffer_class: uniform}")
    assert "her-acme/my needs a buffer with hindsight" in run("check", "acme", code=1)
    config.write_text(
        "default: {n_timesteps: 9, policy: MlpPolicy}\nALE/Pong-v5: {policy: CnnPolicy}"
    )
    assert run("check", "acme") == "ok     algorithm acme/my\n"


TAKEN = """
from stable_baselines3 import TD3
from pyrl_sb3.plugins import AlgorithmSpec, hookimpl

@hookimpl
def pyrl_algorithms():
    yield AlgorithmSpec(name="sac", target=TD3)
    yield AlgorithmSpec(name="her-sac", target=TD3)
"""


def test_an_algorithm_whose_name_is_that_of_a_command_of_ours(fake_dist):
    fake_dist("acme", TAKEN)
    message = "algorithm acme/sac: no command trains it: sac-train is that of pyrl/sac"
    assert f"FAILED {message}" in run("check", "acme", code=1)
    said = run("doctor")
    assert "taken   acme/sac: the commands of that name train pyrl/sac" in said
    assert "taken   acme/her-sac: the commands of that name train pyrl/sac" in said
    # Ours is trained without a warning that nobody could do anything about.
    assert algorithm_class("her-sac").__name__ == "SAC"
    assert policy_meant("sac", "MlpPolicy").__name__ == "SACPolicy"


def test_list_components(good):
    output = run_list("noises")
    assert "good/brown" in output
    assert re.search("^pyrl/ou  +Ornstein-Uhlenbeck", output, re.MULTILINE)
    names = [each["name"] for each in json.loads(run_list("algos", "--json"))]
    known = ["crossq", "ddpg", "dqn", "qrdqn", "sac", "sac-discrete", "td3", "tqc"]
    assert names == [f"pyrl/{name}" for name in known]
    with pytest.raises(UnknownComponentError, match="unknown kind of component 'noisy'"):
        run_list("noisy")
    message = r"'nois'; kinds: noises, buffers, sync, .*, engines; did you mean noises\?"
    with pytest.raises(UnknownComponentError, match=message):
        run_list("nois")
    with pytest.raises(UnknownComponentError, match="kinds: noises, buffers, sync"):
        run("list", "--kind", "nope")


def test_warnings_are_one_line(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    plain_warnings()
    assert warnings.formatwarning("odd", PluginWarning, "f.py", 3) == "warning: odd\n"
    assert "f.py:3" in warnings.formatwarning("odd", UserWarning, "f.py", 3)


def test_warnings_work_however_many_commands_made_them_plain(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    for _ in range(1000):  # one process may run as many, as tests do
        plain_warnings()
    assert warnings.formatwarning("odd", PluginWarning, "f.py", 3) == "warning: odd\n"
    assert "f.py:3: UserWarning: odd" in warnings.formatwarning("odd", UserWarning, "f.py", 3)


@pytest.mark.parametrize("command", [["list"], ["doctor"]])
def test_no_torch(good, broken, command):
    code = (
        "import sys; from pyrl_sb3.cli.plugins import app\n"
        f"try: app({command!r})\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch'"
    )
    environment = {**os.environ, "PYTHONPATH": str(good)}
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr


def test_options_reach_the_manager(good, monkeypatch):
    for variable in ("PYRL_LOAD_PLUGINS", "PYRL_DISABLE_PLUGINS"):
        monkeypatch.setenv(variable, "good")
    monkeypatch.delenv("PYRL_DISABLE_PLUGINS")
    assert "good/brown" in run_list("noises")
    monkeypatch.setenv("PYRL_DISABLE_PLUGINS", "")
    configure(plugins=["no:good"])
    assert "good/brown" not in run_list("noises")
    monkeypatch.setenv("PYRL_DISABLE_PLUGINS", "")
    configure(no_plugins=True)
    assert get_plugin_manager().settings.load == frozenset()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("goood", "; did you mean good?"),
        ("Pyrl_God", "; did you mean pyrl-good?"),
        ("nothing", "; there are .*good.*"),
        ("", "; there are .*good.*"),
    ],
)
def test_a_plugin_that_is_not_there_cannot_be_left_out(good, capsys, monkeypatch, name, hint):
    monkeypatch.setenv("PYRL_DISABLE_PLUGINS", "")
    assert run_pyrl(["-p", f"no:{name}", "list", "noises"]) == 2
    said, hint = f"no:{name}: no plugin of that name is installed", hint.replace("?", "[?]")
    assert re.fullmatch(f"pyrl: Invalid value for '-p': {said}{hint}\n", capsys.readouterr().err)
    assert os.environ["PYRL_DISABLE_PLUGINS"] == ""


@pytest.mark.parametrize("name", ["good", "Good", "pyrl-good", "Pyrl.Good", "good,pyrl-good"])
def test_a_plugin_is_left_out_by_its_name_or_that_of_its_package(good, capsys, monkeypatch, name):
    monkeypatch.setenv("PYRL_DISABLE_PLUGINS", "")
    assert run_pyrl(["list", "noises"]) == 0
    assert "good/brown" in capsys.readouterr().out
    assert run_pyrl(["-p", f"no:{name}", "list", "noises"]) == 0
    assert "good/brown" not in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["plugins", "list"], ["list", "noises"]])
def test_commands_work_beside_broken_plugins(good, broken, arguments):
    process = subprocess.run(
        [sys.executable, "-m", "pyrl_sb3", *arguments],
        env={**os.environ, "PYTHONPATH": str(good)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    if arguments[0] != "--help":
        assert "good/brown" in process.stdout


def test_what_is_disabled_is_listed_and_told_of(good, broken, monkeypatch):
    monkeypatch.setenv("PYRL_DISABLE_PLUGINS", "good")
    get_plugin_manager.cache_clear()
    header, *rows = [re.split("  +", line) for line in run("list", "--all").splitlines()[:-1]]
    assert header == ["plugin", "distribution", "status", "components"]
    assert ["good", "pyrl-good 1.0", "disabled"] in rows
    assert not any("good/brown" in cell for row in rows for cell in row)
    assert "disabled" not in run("list")
    assert "off     good (pyrl-good 1.0), disabled\n" in run("doctor", code=1)


def test_pins_as_json(good):
    assert json.loads(run("list", "--requirements", "--json")) == ["pyrl-good==1.0"]


def test_a_plugin_that_failed_is_named_with_its_cause_and_one_that_is_not_there(good, broken):
    for command in ("show", "check"):
        with pytest.raises(PluginError, match=r"import-error \(pyrl-import-error 1\.0\) failed at"):
            run(command, "import_error")
        with pytest.raises(UnknownComponentError, match=r"'goodd'; plugins: .*; did you mean good"):
            run(command, "goodd")

"""Configs that mean harm, or nothing: refused in one line each, and nothing of them is run."""

import re
import sys
from pathlib import Path

import pytest
from torch import nn

from pyrl_sb3.cli.plugin_options import configure
from pyrl_sb3.config import ConfigError, read_experiment
from pyrl_sb3.config.expressions import ExpressionError, read_expression
from pyrl_sb3.plugins import get_plugin_manager

CASES = sorted((Path(__file__).parent / "hostile").glob("*.yml"))
PLANTED = (
    "open('canary', 'w').close()\nWrapper = Callback = Policy = Buffer = Extractor = noise = 0\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a module on the path that leaves a `canary` when it is imported."""
    (tmp_path / "planted.py").write_text(PLANTED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(ConfigError) as caught:
        read_experiment(path, "sac", "Pendulum-v1")
    (line,) = caught.value.problems
    assert "\n" not in line
    assert len(line) < 500
    assert line.startswith(str(path))
    return line.removeprefix(str(path))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_a_hostile_file_is_refused_in_one_line(case: Path, folder: Path) -> None:
    line = refusal(case)
    pattern = case.read_text().splitlines()[0].removeprefix("# expect: ")
    assert re.search(pattern, line)
    assert not (folder / "canary").exists()
    assert "planted" not in sys.modules


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"default:\n  policy: Mlp\x00Policy\n", r"character '\x00' at 22 cannot stand in YAML"),
        ("default: {gamma: 0.9}\n".encode("utf-16"), "not UTF-8 text, see byte 0"),
        (b"default:\n  policy: caf\xe9\n", "not UTF-8 text, see byte 22"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not UTF-8 text, see byte 0"),
        (b"default: {gamma: 0.9}\n" + b"#" * 300_000, "larger than 256 kB"),
        (b"PK\x03\x04default", r"cannot stand in YAML"),
    ],
    ids=["nul", "utf-16", "latin-1", "picture", "large", "archive"],
)
def test_bytes_that_are_no_text(raw: bytes, expected: str, folder: Path) -> None:
    path = folder / "config.yml"
    path.write_bytes(raw)
    assert expected in refusal(path)


def test_what_a_run_has_written_may_be_larger_than_what_it_was_given(folder: Path) -> None:
    given, written = folder / "given.yml", folder / "config.yml"
    given.write_text("default: {env_kwargs: {map: " + "é" * 100_000 + "}}", encoding="utf-8")
    experiment = read_experiment(given, "sac", "Pendulum-v1")
    written.write_text(experiment.as_yaml())
    assert "larger than 256 kB" in refusal(written)
    (folder / "run.yml").touch()
    assert read_experiment(written, "sac", "Pendulum-v1").given == experiment.given
    written.write_text("#" * 2_048_001)
    assert "larger than 2000 kB" in refusal(written)


def test_many_values_are_refused_before_all_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrl_sb3.config.documents._MOST_NODES", 9)
    (folder / "config.yml").write_text("default:\n  a: [" + "0,\n" * 100 + "]")
    assert refusal(folder / "config.yml") == ":6: more than 9 values"


def test_a_nul_in_an_expression_is_refused() -> None:
    with pytest.raises(ExpressionError, match="null bytes"):
        read_expression("dict(a=1\0)")


def test_python_runs_only_when_trusted(folder: Path) -> None:
    config = folder / "config.py"
    config.write_text(
        "open('canary', 'w').close()\n"
        "from stable_baselines3.sac.policies import SACPolicy\n"
        "hyperparams = {'default': dict(n_timesteps=10, policy=SACPolicy)}\n"
    )
    assert "pass --trust" in refusal(config)
    assert not (folder / "canary").exists()
    experiment = read_experiment(config, "sac", "Pendulum-v1", trust=True)
    assert experiment.policy.__name__ == "SACPolicy"
    assert (folder / "canary").exists()


def test_what_is_trusted_is_imported(folder: Path) -> None:
    (folder / "trusted_wrappers.py").write_text(
        "import gymnasium\nclass Wrapper(gymnasium.Wrapper):\n"
        "    def __init__(self, env, size=1):\n        super().__init__(env)\n"
    )
    config = folder / "config.yml"
    config.write_text("default: {env_wrapper: [trusted_wrappers.Wrapper: {size: 2}]}")
    experiment = read_experiment(config, "sac", "Pendulum-v1", trust=True)
    experiment.check_components()
    assert experiment.env_wrapper[0].load().__name__ == "Wrapper"
    config.write_text("default: {env_wrapper: [trusted_wrappers.Wrapper: {sise: 2}]}")
    experiment = read_experiment(config, "sac", "Pendulum-v1", trust=True)
    with pytest.raises(ConfigError, match="takes no argument 'sise'; did you mean size"):
        experiment.check_components()


def test_a_class_that_is_named_by_its_path_takes_trust(folder: Path) -> None:
    (folder / "trusted_networks.py").write_text("from torch.nn import ReLU as Activation")
    config = folder / "config.yml"
    config.write_text("default: {policy_kwargs: {activation_fn: 'trusted_networks:Activation'}}")
    assert "pass --trust" in refusal(config)
    experiment = read_experiment(config, "sac", "Pendulum-v1", trust=True)
    assert experiment.arguments["policy_kwargs"]["activation_fn"] is nn.ReLU


@pytest.mark.parametrize("path", ["plugs/kick.py", "./plugs/kick.py", "{}/plugs/kick.py"])
def test_a_plugin_that_is_given_as_a_file_needs_no_trust(
    path: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "plugs").mkdir()
    (folder / "plugs" / "kick.py").write_text(
        "import gymnasium\nfrom pyrl_sb3.plugins import hookimpl\n"
        "class Kick(gymnasium.Wrapper):\n    pass\n"
        "@hookimpl\ndef pyrl_noise_processes():\n    return []\n"
    )
    config = folder / "config.yml"
    config.write_text("default: {env_wrapper: [kick.Kick]}")
    assert "would run code of 'kick'; pass --trust" in refusal(config)
    monkeypatch.setenv("PYRL_PLUGIN_MODULES", "")
    try:
        configure(plugins=[path.format(folder)])
        experiment = read_experiment(config, "sac", "Pendulum-v1")
        experiment.check_components()
        assert experiment.env_wrapper[0].load().__name__ == "Kick"
        config.write_text("default: {env_wrapper: [planted.Wrapper]}")
        assert "would run code of 'planted'; pass --trust" in refusal(config)
    finally:
        get_plugin_manager.cache_clear()
        sys.modules.pop("kick", None)
    assert not (folder / "canary").exists()


def test_a_file_that_may_not_be_read_has_no_likely_other_name(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "config.yml").touch()
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ConfigError, match=r"config\.yml: Permission denied$"):
        read_experiment(tmp_path / "config.yml", "sac", "Pendulum-v1")

"""The agents in the package: small, read like a stranger's files, as good as is said of them."""

import re

import pytest
import yaml

from pyrl_sb3.training.pretrained import FOLDER

SHIPPED = sorted(path.parent for path in FOLDER.glob("*/*/model.zip"))
NAMES = [f"{folder.parent.name} {folder.name}" for folder in SHIPPED]


def test_there_are_some() -> None:
    assert len(SHIPPED) >= 2


@pytest.mark.parametrize("folder", SHIPPED, ids=NAMES)
def test_each_is_small_and_says_how_it_was_made(folder) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 2**20
    made = yaml.safe_load((folder / "made.yml").read_text())
    assert made["command"].startswith(f"pyrl {folder.parent.name}-train {folder.name} ")
    assert "--seed" in made["command"]
    assert not re.search(r"(^|\s)/", made["command"])  # of no machine's folders
    assert yaml.safe_load((folder / "config.yml").read_text())["default"]


@pytest.mark.parametrize("folder", SHIPPED, ids=NAMES)
def test_each_is_as_good_as_is_said(folder, pyrl) -> None:
    made = yaml.safe_load((folder / "made.yml").read_text())["result"]
    line = (f"{folder.parent.name}-test", folder.name, "--pretrained", "--episodes", "5")
    tested = pyrl(*line, "--seed", "10000")
    assert (tested.code, tested.err) == (0, "")
    if "success_rate" in made:
        success = float(re.search(r"success rate ([\d.]+)", tested.out)[1])
        assert success >= made["success_rate"] - 0.21
    else:
        mean = float(re.search(r"return (-?[\d.]+)", tested.out)[1])
        assert mean >= made["mean_return"] - 60


def test_trusting_one_changes_nothing(pyrl) -> None:
    folder = SHIPPED[0]
    line = (f"{folder.parent.name}-test", folder.name, "--pretrained", "--episodes", "1")
    tested, trusted = pyrl(*line), pyrl(*line, "--trust")
    assert trusted == tested
    assert tested.code == 0


def test_what_there_is_not_is_named_with_what_there_is(pyrl) -> None:
    outcome = pyrl("sac-test", "Pendulum-v1", "--pretrained")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "--pretrained: no sac Pendulum-v1" in outcome.err
    assert all(name in outcome.err for name in NAMES)


def test_two_models_are_one_too_many(pyrl) -> None:
    outcome = pyrl("sac-test", "Pendulum-v1", "mine.zip", "--pretrained")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "leave one of them out" in outcome.err

"""Parameters of strategies that mean nothing are refused before anything begins."""

import math

import pytest
from typer.testing import CliRunner

import pyrl_sb3
from pyrl_sb3.cli.app import app
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.sync import strategies
from pyrl_sb3.training.sync.callback import SeedSyncCallback
from pyrl_sb3.training.sync.job import SyncPlan
from pyrl_sb3.training.sync.strategies import STRATEGIES
from pyrl_sb3.training.sync.trainer import AgentTrainer

OUT_OF_RANGE = [
    ("weighted", "temperature", (0, -1.0, math.nan, math.inf), "greater than 0"),
    ("best", "patience", (0, -1, 1.5, math.nan, math.inf), "at least 1"),
    ("soft-best", "pull", (2, -1, math.nan), "from 0 to 1"),
    ("elastic", "beta", (1.1, -0.1, math.nan), "from 0 to 1"),
    ("outer", "learning_rate", (0, -0.7, math.nan), "greater than 0"),
    ("outer", "momentum", (1, -0.1, math.nan), "from 0 to less than 1"),
]
EACH = [(name, key, value, text) for name, key, values, text in OUT_OF_RANGE for value in values]


@pytest.mark.parametrize(("name", "key", "value", "text"), EACH)
def test_out_of_range(name, key, value, text):
    problem = f"{key}={value}: must be .*{text}"
    with pytest.raises(InputError, match=problem):
        SeedSyncCallback(name, **{key: value})
    with pytest.raises(InputError, match=problem):
        SeedSyncCallback(STRATEGIES[name], **{key: value})
    if not isinstance(value, float) or key != "patience":
        with pytest.raises(InputError, match=f"sync {name}: {problem}"):
            SyncPlan(name=name, params={key: value})


def test_the_ends_of_ranges_and_the_defaults_are_in_them():
    for name, strategy in STRATEGIES.items():
        SeedSyncCallback(name, **(strategy.__kwdefaults__ or {}))
        SyncPlan(name=name, params=strategy.__kwdefaults__ or {})
    for pull in (0, 1):
        SeedSyncCallback("soft-best", pull=pull)
    SeedSyncCallback("best", patience=1)
    SeedSyncCallback("outer", learning_rate=1, momentum=0)


@pytest.mark.parametrize("name", ["weighted", "best", "soft-best"])
def test_scores_are_of_one_episode_or_more(name):
    with pytest.raises(InputError, match="episodes=0: must be a whole number, at least 1"):
        SyncPlan(name=name, params={"episodes": 0})


def test_unknown_parameters_and_intervals():
    with pytest.raises(InputError, match="no parameter 'temprature'; did you mean temperature"):
        SeedSyncCallback("weighted", temprature=1)
    with pytest.raises(InputError, match="no parameter 'pull'; there are none"):
        SeedSyncCallback("mean", pull=0.5)
    with pytest.raises(InputError, match="interval=0: must be at least 1"):
        SeedSyncCallback("mean", interval=0)


def test_rounds_in_one_process_too():
    with pytest.raises(InputError, match="pull=2: must be"):
        AgentTrainer(pyrl_sb3.TD3, "Pendulum-v1", 2, sync="soft-best", sync_params={"pull": 2})


def test_functions_of_ones_own_take_what_they_like():
    def own(reports, rank, memory, *, temperature):
        return strategies.mean(reports, rank, memory)

    SeedSyncCallback(own, temperature=-1)


def test_the_command_line_says_it_before_a_folder_is_made(tmp_path):
    arguments = ["td3-train", "Pendulum-v1", "--seeds", "2", "--sync", "weighted"]
    arguments += ["--set", "sync.params.temperature=0", "--save", str(tmp_path / "runs")]
    outcome = CliRunner().invoke(app, arguments)
    assert isinstance(outcome.exception, InputError)
    assert "temperature=0: must be a number greater than 0" in str(outcome.exception)
    assert not (tmp_path / "runs").exists()

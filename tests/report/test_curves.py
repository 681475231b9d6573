"""Learning curves as numbers, from what runs have logged."""

import json
import zipfile

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from pyrl_sb3.report.curves import read_evaluations, read_training
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.evaluation import Evaluation
from pyrl_sb3.training.logs import add_evaluation, last_evaluated

STEPS, RETURNS = np.array([10, 20, 30]), np.array([[0.0, 2.0], [3.0, 3.0], [8.0, 4.0]])


def evaluations(folder, **saved):
    np.savez(folder / "evaluations.npz", **{"timesteps": STEPS, "results": RETURNS, **saved})
    return folder


def test_evaluations(tmp_path):
    successes = np.array([[False, False], [True, False], [True, True]])
    curve = read_evaluations(evaluations(tmp_path, successes=successes))
    assert curve.steps.tolist() == [10, 20, 30]
    assert curve.returns.tolist() == [1, 3, 6]
    assert curve.spread.tolist() == [1, 0, 2]
    assert curve.successes.tolist() == [0, 0.5, 1]
    assert (curve.label, curve.episodes) == (str(tmp_path), 2)


def test_smoothing_is_a_mean_over_the_last_points(tmp_path):
    curve = read_evaluations(evaluations(tmp_path))
    assert curve.smoothed(1) is curve
    assert curve.smoothed(2).returns.tolist() == [1, 2, 4.5]
    assert curve.smoothed(9).returns == pytest.approx([1, 2, 10 / 3])
    assert curve.smoothed(2).spread is None


def test_smoothing_takes_the_successes_of_points_that_say_so(tmp_path):
    successes = np.array([[np.nan, np.nan], [1, 1], [np.nan, np.nan], [np.nan, 0], [0, 1]])
    returns = np.array([0, 1, np.nan, 3, 5])[:, None].repeat(2, axis=1)
    saved = {"timesteps": np.arange(5), "results": returns, "successes": successes}
    curve = read_evaluations(evaluations(tmp_path, **saved)).smoothed(2)
    assert curve.successes.tolist() == pytest.approx([np.nan, 1, 1, 0, 0.25], nan_ok=True)
    # A return that is no number is that of an agent which has diverged.
    assert curve.returns.tolist() == pytest.approx([0, 0.5, np.nan, np.nan, 4], nan_ok=True)


def test_numbers_that_json_has_not(tmp_path):
    returns = np.array([[np.nan], [np.inf], [1]])
    curve = read_evaluations(evaluations(tmp_path, results=returns))
    assert json.loads(json.dumps(curve.as_dict(), allow_nan=False))["returns"] == [None, None, 1]


@pytest.mark.parametrize(
    "saved",
    [
        {"timesteps": STEPS[:2]},
        {"results": RETURNS[:, 0]},
        {"results": np.zeros((3, 0))},
        {"successes": np.zeros(3)},
        {"timesteps": np.array(["10", "20", "30"])},
        {"timesteps": np.array(10)},
        {"timesteps": STEPS[:, None]},
        {"timesteps": np.array([10, 20, np.nan])},
        {"timesteps": STEPS.astype("M8[s]")},
        {"results": RETURNS.astype(str)},
        {"results": RETURNS.astype(complex)},
        {"results": np.zeros((3, 2), "f4,i4")},
        {"successes": RETURNS.astype(str)},
        {"timesteps": STEPS[:0], "results": RETURNS[:0]},
    ],
    ids=lambda saved: str({name: (v.dtype, v.shape) for name, v in saved.items()}),
)
def test_evaluations_that_are_not(tmp_path, saved):
    with pytest.raises(InputError, match="holds no evaluations"):
        read_evaluations(evaluations(tmp_path, **saved))
    assert last_evaluated(tmp_path) == 0
    with pytest.raises(InputError, match="holds no evaluations"):
        add_evaluation(
            tmp_path / "evaluations.npz", 40, Evaluation(RETURNS[0], STEPS[:2], RETURNS[0] > 1)
        )


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), ",
        "{[]: 1}",
        "1\n  2\n 3",
    ],
    ids=["cut", "unhashable", "indented"],
)
def test_evaluations_with_a_damaged_header(tmp_path, header):
    path = evaluations(tmp_path) / "evaluations.npz"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("results.npy", content)
    before = path.read_bytes()
    for ask in (
        lambda: read_evaluations(tmp_path),
        lambda: add_evaluation(path, 40, Evaluation(RETURNS[0], STEPS[:2], None)),
    ):
        with pytest.raises(InputError) as caught:
            ask()
        assert str(caught.value) == f"{path} cannot be read: its header is damaged"
    assert last_evaluated(tmp_path) == 0
    assert path.read_bytes() == before


def test_no_evaluations(tmp_path):
    with pytest.raises(InputError, match=r"has no evaluations\.npz yet; --training"):
        read_evaluations(tmp_path)


class Counts(gym.Env):
    """Episodes of `length` steps; the reward is the number of the step, over all episodes."""

    observation_space = action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, length):
        self.length, self.step_count = length, 0

    def reset(self, **_):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.step_count += 1
        done = self.step_count % self.length == 0
        info = {"is_success": self.step_count > 4}
        return np.zeros(1, np.float32), float(self.step_count), done, False, info


@pytest.mark.parametrize("keys", [(), ("is_success",)])
def test_training_episodes_of_several_environments(tmp_path, keys):
    made = [
        lambda i=i, n=n: Monitor(Counts(n), str(tmp_path / str(i)), info_keywords=keys)
        for i, n in enumerate((2, 3))
    ]
    env = DummyVecEnv(made)
    env.reset()
    for _ in range(6):
        env.step(np.zeros((2, 1)))
    env.close()
    curve = read_training(tmp_path)
    # Both end an episode after 6 steps, of 12 then.
    assert curve.steps.tolist() == [4, 6, 8, 12, 12]
    assert curve.returns.tolist() == [3, 6, 7, 11, 15]
    assert (curve.successes is None) == (not keys)
    if keys:
        assert curve.successes.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no finished training episodes"),
        ("#{}\nr,l,t\n", "no finished training episodes"),
        ("#{}\nr,l,t\n1.0,2,1\n1.0,x,3\n", "cannot be read: invalid literal"),
        ("#{}\na,b\n1.0,2\n", r"cannot be read: it has no 'l' \(line 3\)"),
        ("#{}\nr,l,t\n1.0\n", r"cannot be read: it has another form than it should \(line 3\)"),
        ("#{}\nr,l,t\nlong,2,3\n", "cannot be read: could not convert"),
        ("#{}\nr,l,t\n1.0," + 30 * "9" + ",3\n", "cannot be read: no number of steps: 9999"),
        ("#{}\nr,l,t,env_steps\n1.0,2,3,-1\n", "cannot be read: no number of steps: -1"),
    ],
)
def test_training_episodes_that_are_not(tmp_path, text, message):
    (tmp_path / "0.monitor.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_training(tmp_path)


def test_training_episodes_in_what_is_no_file(tmp_path):
    (tmp_path / "0.monitor.csv").mkdir()
    with pytest.raises(InputError, match=r"0\.monitor\.csv cannot be read: [A-Z]\w+ [^(]+$"):
        read_training(tmp_path)

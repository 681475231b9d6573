"""`--trained-agent`: what a training begins with, and what it refuses."""

import io
import pickle
import shutil
import signal
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
import yaml
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.folders import statistics_file
from pyrl_sb3.training.normalization import load_statistics
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.resume import resume
from pyrl_sb3.training.run import train

ALGORITHMS = {
    "sac": "Pendulum-v1",
    "td3": "Pendulum-v1",
    "ddpg": "Pendulum-v1",
    "tqc": "Pendulum-v1",
    "crossq": "Pendulum-v1",
    "dqn": "CartPole-v1",
    "qrdqn": "CartPole-v1",
    "sac-discrete": "CartPole-v1",
    "her-sac": "FetchReach-v4",
}
SMALL = (
    "policy_kwargs={net_arch: [4]}",
    "learning_starts=10",
    "env_kwargs={max_episode_steps: 10}",
    "n_steps=1",
    "train_freq=1",
    "gradient_steps=1",
    "batch_size=8",
)
NOTHING_LEARNED = "learning_starts=1000"


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Requests of trainings of 60 steps, for an agent."""
    before = th.get_num_threads()

    def request(agent="sac", **changes):
        given = {
            "agent": agent,
            "env_id": ALGORITHMS[agent],
            "save": tmp_path_factory.mktemp("runs"),
            "overrides": SMALL,
            "timesteps": 60,
            "seed": 0,
            "eval_episodes": 1,
            "eval_freq": 0,
            "threads": 1,
        }
        return TrainingRequest(**{**given, **changes})

    yield request
    th.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(asked):
    """A run of SAC whose temperature has moved."""
    return train(asked()).folder


@pytest.fixture(scope="module")
def normalized(asked):
    """A run of SAC with normalised observations and rewards."""
    return train(asked(overrides=(*SMALL, "normalize=true"))).folder


def saved(run):
    """What SB3 finds in the model of a run: its data, tensors by member, and variables."""
    return load_from_zip_file(run / "model.zip", load_data=True)


def statistics(run):
    return pickle.loads(statistics_file(run / "model.zip").read_bytes())


def stop(given, _):
    """A callback: SIGTERM after 45 steps, the first time."""
    if given["self"].num_timesteps == 45 and not Path("stopped").exists():
        Path("stopped").touch()
        signal.raise_signal(signal.SIGTERM)
    return True


def equal(some, other):
    return some.keys() == other.keys() and all(th.equal(some[key], other[key]) for key in some)


@pytest.mark.parametrize("agent", [name for name in ALGORITHMS if name != "her-sac"])
def test_networks_are_handed_over(asked, agent):
    first = train(asked(agent)).folder
    # Whose target is otherwise set to the network
    late = ("target_update_interval=1000",) if "dqn" in agent else ()
    overrides = (*SMALL, *late, NOTHING_LEARNED)
    run = train(asked(agent, seed=1, overrides=overrides, trained_agent=first)).folder
    _, then, variables = saved(first)
    data, now, handed_over = saved(run)
    assert equal(now["policy"], then["policy"])
    assert data["num_timesteps"] == 60
    if agent in ("sac", "tqc", "crossq", "sac-discrete"):
        (learned,) = variables["log_ent_coef"].tolist()
        assert learned != 0
        assert handed_over["log_ent_coef"].tolist() == [learned]


def test_it_learns_on_from_there(asked, trained):
    request = asked(seed=3, trained_agent=trained)
    some, other = train(request), train(request)
    (_, then, _), (_, now, variables), (_, again, _) = map(
        saved, (trained, some.folder, other.folder)
    )
    assert not equal(now["policy"], then["policy"])
    assert equal(now["policy"], again["policy"])  # of the same seed
    assert now["actor.optimizer"]["state"][0]["step"] == 50  # new, of this training's steps
    assert variables["log_ent_coef"].item() != 0


def test_the_seed_alone_decides_what_is_drawn(asked, trained):
    request = asked(seed=5, overrides=(*SMALL, NOTHING_LEARNED))
    rewards = [
        (train(each).folder / "0.monitor.csv").read_text().splitlines()[2:]
        for each in (request, replace(request, trained_agent=trained))
    ]
    first, second = ([line.split(",")[:2] for line in lines] for lines in rewards)
    assert first == second
    assert len(first) == 6


def test_a_temperature_that_is_not_learned_stays(asked, trained):
    overrides = (*SMALL, NOTHING_LEARNED, "ent_coef=0.25")
    run = train(asked(overrides=overrides, trained_agent=trained)).folder
    assert saved(run)[2]["ent_coef_tensor"].item() == 0.25
    # And the other way round, one is learned anew.
    again = asked(overrides=(*SMALL, NOTHING_LEARNED), trained_agent=run)
    assert saved(train(again).folder)[2]["log_ent_coef"].item() == 0


def test_statistics_go_on(asked, normalized):
    changes = (*SMALL, "normalize={clip_obs: 3.0}", NOTHING_LEARNED)
    request = asked(overrides=changes, timesteps=20, seed=1)
    before = statistics(normalized)
    for trust in (False, True):
        there = train(replace(request, trained_agent=normalized, trust=trust))
        after, alone = map(statistics, (there.folder, train(request).folder))
        assert after.clip_obs == 3.0
        for name in ("obs_rms", "ret_rms"):
            old, new, own = (getattr(each, name) for each in (before, after, alone))
            # What RunningMeanStd says of both together; it begins with a count of 1e-4.
            total = old.count + own.count - 1e-4
            assert new.count == pytest.approx(total)
            expected = (old.mean * old.count + own.mean * own.count) / total
            np.testing.assert_allclose(new.mean, expected, atol=1e-4)


def test_hindsight_and_its_statistics(asked):
    overrides = (*SMALL[:2], "normalize=true", "replay_buffer_kwargs={n_sampled_goal: 2}")
    first = train(asked("her-sac", overrides=overrides)).folder
    again = (*overrides, NOTHING_LEARNED)
    run = train(asked("her-sac", overrides=again, trained_agent=first)).folder
    assert equal(saved(run)[1]["policy"], saved(first)[1]["policy"])
    for key, moments in statistics(run).obs_rms.items():
        assert moments.count > statistics(first).obs_rms[key].count + 50


def test_a_model_of_sb3(asked, tmp_path):
    model = sb3.SAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [4]}, device="cpu")
    with th.no_grad():
        model.log_ent_coef.fill_(-1.5)
    model.save(tmp_path / "agent")
    for stock in (False, True):
        overrides = (*SMALL, NOTHING_LEARNED)
        request = asked(overrides=overrides, trained_agent=tmp_path / "agent", stock=stock)
        _, now, variables = saved(train(request).folder)
        assert equal(now["policy"], model.policy.state_dict())
        assert variables["log_ent_coef"].item() == -1.5


def test_resuming_needs_it_no_more(asked, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "first")
    request = asked(trained_agent=tmp_path / "first", save_freq=30)
    whole = train(request).folder
    run = train(request, stop).folder
    shutil.rmtree(tmp_path / "first")
    *_, last = sorted((run / "checkpoints").iterdir())
    shutil.rmtree(last)  # as if it had been killed before
    resume(run, callbacks=stop)
    (_, some, _), (_, other, _) = map(saved, (whole, run))
    assert equal(some["policy"], other["policy"])
    with pytest.raises(InputError, match=r"no model at .*first"):
        train(request)


def test_which_agent_it_was_is_noted(asked, trained, caplog):
    for given in (trained, trained / "model", trained.parent):
        caplog.clear()
        with caplog.at_level("INFO", logger="pyrl_sb3"):
            run = train(asked(trained_agent=str(given), timesteps=20)).folder
        noted = yaml.safe_load((run / "run.yml").read_text())["request"]["trained_agent"]
        assert noted == str(trained / "model.zip")
        assert f"begins with the agent of {noted}, trained for 60 steps" in caplog.messages


def test_what_does_not_fit(asked, trained, normalized, tmp_path):
    other_env = asked(env_id="MountainCarContinuous-v0")
    narrower = asked(overrides=(*SMALL[1:], "policy_kwargs.net_arch=[3]"))
    deeper = asked(overrides=(*SMALL[1:], "policy_kwargs.net_arch=[4, 4]"))
    cases = [
        (asked(), tmp_path / "nothing", r"^--trained-agent: no model at \S*nothing$"),
        (asked(), tmp_path, r"^--trained-agent: no model of Pendulum-v1 in \S*$"),
        (asked("td3"), trained, "is no TD3 model; try sac-train$"),
        (other_env, trained, "Observation spaces do not match"),
        (narrower, trained, r"size mismatch .*; --config \S*config.yml is its own"),
        (
            asked(overrides=(*SMALL, "policy_kwargs.activation_fn=nn.Tanh")),
            trained,
            r"it has ReLU\(\), not Tanh\(\); --config \S*config.yml is its own",
        ),
        (deeper, trained, r"Missing key.*; --config \S*config.yml is its own"),
        (asked(), normalized, "learned from normalised observations, here are observations as"),
        (
            asked(overrides=(*SMALL, "normalize=true")),
            trained,
            r"from observations as they are, here are normalised .* no \S*vecnormalize.pkl$",
        ),
    ]
    for request, path, problem in cases:
        with pytest.raises(InputError, match=problem):
            train(replace(request, trained_agent=path))
        assert not list(request.save.iterdir())
    # Of rewards alone none is needed.
    alone = asked(overrides=(*SMALL, "normalize={norm_obs: false}"), trained_agent=trained)
    assert train(alone).timesteps == 60


def test_other_keys_are_normalised(asked):
    overrides = (*SMALL[:2], "normalize={norm_obs_keys: [observation]}")
    first = train(asked("her-sac", overrides=overrides)).folder
    others = (*SMALL[:2], "normalize={norm_obs_keys: [observation, desired_goal]}")
    with pytest.raises(InputError, match=r"observation normalised, here are .* desired_goal, obs"):
        train(asked("her-sac", overrides=others, trained_agent=first))


def variables(content):
    file = io.BytesIO()
    th.save(content, file)
    return file.getvalue()


def rewritten(run, copy, content):
    """A copy of a run whose model has other variables."""
    shutil.copytree(run, copy)
    with (
        zipfile.ZipFile(run / "model.zip") as old,
        zipfile.ZipFile(copy / "model.zip", "w") as new,
    ):
        for name in old.namelist():
            new.writestr(name, content if name == "pytorch_variables.pth" else old.read(name))
    return copy


def test_damaged_agents(asked, trained, normalized, tmp_path):
    model = (trained / "model.zip").read_bytes()
    truncated = tmp_path / "truncated.zip"
    truncated.write_bytes(model[: len(model) // 2])
    with pytest.raises(InputError, match="truncated"):
        train(asked(trained_agent=truncated))
    for number, value in enumerate((th.tensor([np.nan]), th.zeros(3))):
        copied = rewritten(trained, tmp_path / f"{number}", variables({"log_ent_coef": value}))
        with pytest.raises(InputError, match="log_ent_coef is not one finite number"):
            train(asked(trained_agent=copied))
    nonsense = rewritten(trained, tmp_path / "nonsense", b"nonsense")
    with pytest.raises(InputError, match="pytorch_variables"):
        train(asked(trained_agent=nonsense))
    copied = tmp_path / "normalized"
    shutil.copytree(normalized, copied)
    found = load_statistics(copied / "model.zip", DummyVecEnv([partial(gym.make, "Pendulum-v1")]))
    found.ret_rms.var = np.asarray(-1.0)
    found.save(statistics_file(copied / "model.zip"))
    with pytest.raises(InputError, match="ret_rms: its var is negative"):
        train(asked(overrides=(*SMALL, "normalize=true"), trained_agent=copied))
    env = DummyVecEnv([partial(gym.make, "Pendulum-v1")])
    assert load_statistics(copied / "model.zip", env).obs_rms.count > 60  # acting needs no returns


class Named(th.nn.ReLU):
    """Computes as, and calls itself, ReLU; of a script, whose code is not run unless trusted."""

    def __repr__(self):
        return "ReLU()"


def test_agents_of_scripts_need_trust(asked, tmp_path):
    kwargs = {"net_arch": [4], "activation_fn": Named}
    model = sb3.SAC("MlpPolicy", "Pendulum-v1", policy_kwargs=kwargs, device="cpu")
    model.save(tmp_path / "model")
    env = DummyVecEnv([partial(gym.make, "Pendulum-v1")])
    VecNormalize(env).save(tmp_path / "vecnormalize.pkl")
    overrides = (*SMALL, NOTHING_LEARNED, "normalize=true")
    request = asked(overrides=overrides, trained_agent=tmp_path / "model.zip")
    with pytest.raises(InputError, match="--trust"):
        train(request)
    run = train(replace(request, trust=True)).folder
    assert equal(saved(run)[1]["policy"], model.policy.state_dict())


SQUARED = """
from torch import nn

class Squared(nn.Module):
    def __init__(self):
        super().__init__()
        self.function = lambda x: x * x

    def forward(self, x):
        return self.function(x)

    def extra_repr(self):
        return repr(self.function)
"""


def test_layers_are_the_same_wherever_in_memory_they_are(asked, tmp_path, monkeypatch):
    (tmp_path / "squared_layers.py").write_text(SQUARED)
    monkeypatch.syspath_prepend(tmp_path)
    overrides = (*SMALL, "policy_kwargs.activation_fn=squared_layers.Squared", NOTHING_LEARNED)
    first = train(asked(overrides=overrides, trust=True)).folder
    again = train(asked(overrides=overrides, trust=True, trained_agent=first)).folder
    assert equal(saved(again)[1]["policy"], saved(first)[1]["policy"])


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('it ran')",)


def test_files_of_strangers_run_nothing(asked, trained, tmp_path):
    copied = rewritten(trained, tmp_path / "copy", variables({"log_ent_coef": Bomb()}))
    with pytest.raises(InputError, match="refused"):
        train(asked(trained_agent=copied))


def test_several_environments(asked, trained):
    overrides = (*SMALL, NOTHING_LEARNED)
    request = asked(trained_agent=trained, n_envs=2, overrides=overrides)
    run = train(request).folder
    assert equal(saved(run)[1]["policy"], saved(trained)[1]["policy"])

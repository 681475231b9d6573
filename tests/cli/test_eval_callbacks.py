"""Callbacks of a config that evaluate: `eval_env` is an environment of the run, one for each."""

import csv
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pyrl_sb3.plugins import get_plugin_manager

SMALL = ("--seed", 1, "--threads", 1, "--timesteps", 90, "--save-freq", 30, "--keep-last", 9)
SMALL = (*SMALL, "--eval-episodes", 1, "--set", "policy_kwargs.net_arch=[4]")
SMALL = (*SMALL, "--set", "learning_starts=20", "--set", "env_kwargs={max_episode_steps: 10}")
SB3S = "stable_baselines3.common.callbacks.EvalCallback"
OFTEN = "{eval_freq: 20, n_eval_episodes: 1, verbose: 0}"
PLUGIN = """
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize, sync_envs_normalization
from pyrl_sb3.plugins import CallbackSpec, hookimpl

class Judge(BaseCallback):
    "Keeps the environment under a name of its own."

    closed = 0

    def __init__(self, eval_env, every=20):
        super().__init__()
        self.judging, self.every, self.found = eval_env, every, []
        inner = eval_env.unwrapped.envs[0].unwrapped
        close = inner.close
        def closing():
            Judge.closed += 1
            close()
        inner.close = closing

    def _on_step(self):
        if self.n_calls % self.every == 0:
            if isinstance(self.judging, VecNormalize):
                sync_envs_normalization(self.training_env, self.judging)
                assert self.judging.obs_rms.count == self.training_env.obs_rms.count
                assert not self.judging.training and not self.judging.norm_reward
            assert self.judging.unwrapped is not self.training_env.unwrapped
            mean, _ = evaluate_policy(self.model, self.judging, 1)
            self.found.append(mean)
            self.logger.record("eval/judged", np.mean(self.found))
            self.logger.dump(self.num_timesteps)
        return True

class Leaving(BaseCallback):
    "May have one."

    def __init__(self, eval_env=None):
        super().__init__()
        assert eval_env is not None

    def _on_step(self):
        return True

@hookimpl
def pyrl_callbacks():
    yield CallbackSpec(name="judge", target=Judge)
    yield CallbackSpec(name="leaving", target=Leaving)
"""


@pytest.fixture
def judging(pyrl, folder, monkeypatch):
    """Run a command with the plugin."""
    for name in ("PYRL_DISABLE_PLUGINS", "PYRL_PLUGIN_MODULES", "PYRL_LOAD_PLUGINS"):
        monkeypatch.setenv(name, "")
    get_plugin_manager.cache_clear()
    (folder / "judging.py").write_text(PLUGIN)
    yield lambda *line: pyrl("-p", "judging.py", *line)
    get_plugin_manager.cache_clear()


def rows(run):
    with (run / "progress.csv").open() as file:
        every = list(csv.DictReader(file))
    clock = ("time/fps", "time/time_elapsed")
    return [{k: v for k, v in row.items() if k not in clock} for row in every]


def weights(run):
    with zipfile.ZipFile(run / "model.zip") as archive:
        return archive.read("policy.pth")


@pytest.mark.parametrize(
    ("callback", "settings"),
    [
        (f"eval: {OFTEN}", ()),
        (f"{SB3S}: {OFTEN}", ("--set", "normalize=true", "--eval-freq", 0)),
        ("judge", ("--set", "normalize=true")),
        ("judge: {every: 10}", ("--n-envs", 2)),
    ],
    ids=["the built-in", "of SB3, by its path", "of a plugin", "of a plugin, with parameters"],
)
def test_runs_with_callbacks_that_evaluate_go_on_as_they_would_have(
    judging, folder, callback, settings
):
    (folder / "my.yml").write_text(f"default:\n  callback:\n    - {callback}\n")
    line = ("sac-train", "Pendulum-v1", "--config", "my.yml", *SMALL, *settings)
    outcome = judging(*line)
    assert (outcome.code, outcome.err) == (0, "")
    whole, killed = Path("sac", "Pendulum-v1_1"), Path("killed")
    logged = "eval/judged" if "judge" in callback else "eval/mean_reward"
    assert sum(bool(row.get(logged)) for row in rows(whole)) >= 4
    shutil.copytree(whole, killed)
    (killed / "model.zip").unlink()
    first, *later = sorted((killed / "checkpoints").glob("step_*"))
    for each in later:
        shutil.rmtree(each)
    outcome = judging("sac-train", "--resume", killed)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"going on after {first.name[5:]} steps" in outcome.out
    assert later
    assert rows(killed) == rows(whole)
    assert weights(killed) == weights(whole)


def test_the_evaluations_of_the_run_are_as_without_them(judging, folder):
    line = ("sac-train", "Pendulum-v1", *SMALL, "--save-freq", 0, "--eval-freq", 30)
    found = []
    for more in ((), ("--set", f"callback=[{{eval: {OFTEN}}}, judge, leaving]")):
        assert judging(*line, *more).code == 0
        run = Path("sac", f"Pendulum-v1_{len(found) + 1}")
        with np.load(run / "evaluations.npz") as evaluations:
            found.append(evaluations["results"].tolist())
    assert found[0] == found[1]


def test_it_is_closed_at_the_end(judging):
    line = ("sac-train", "Pendulum-v1", *SMALL, "--save-freq", 0)
    assert judging(*line, "--set", "callback=judge").code == 0
    import judging as module

    assert module.Judge.closed == 1


def test_with_hindsight(pyrl):
    settings = ("--set", f"callback={{{SB3S}: {OFTEN}}}", "--set", "normalize=true")
    outcome = pyrl("her-dqn-train", "BitFlipping-v0", *SMALL[:-2], *settings)
    assert (outcome.code, outcome.err) == (0, "")


def test_processes_beside_an_environment_of_this_one_are_no_reason_to_warn(pyrl):
    settings = ("--set", f"callback={SB3S}", "--vec-env", "subproc", "--n-envs", 2)
    outcome = pyrl("sac-train", "Pendulum-v1", *SMALL, *settings)
    assert (outcome.code, outcome.err) == (0, "")


def test_it_is_not_for_a_config_to_give(judging):
    for name in ("eval", SB3S, "judge"):
        given = f"callback={{{name}: {{eval_env: 1}}}}"
        outcome = judging("sac-train", "Pendulum-v1", "--set", given)
        assert outcome.code == 2
        assert "takes no argument 'eval_env': it is given one of the run" in outcome.err


OWN = """
import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.monitor import Monitor

def env():
    return Monitor(gym.make("Pendulum-v1", max_episode_steps=10))

class Own(EvalCallback):
    def __init__(self, **kwargs):
        super().__init__(env(), eval_freq=20, n_eval_episodes=1, verbose=0, **kwargs)

class Handing(EvalCallback):
    def __init__(self, often=20, **kwargs):
        super().__init__(eval_freq=often, n_eval_episodes=1, verbose=0, **kwargs)

class Named(BaseCallback):
    def __init__(self, eval_env="Pendulum-v1"):
        super().__init__()
        assert eval_env == "Pendulum-v1"

    def _on_step(self):
        return True

hyperparams = {"default": {
    "policy": "MlpPolicy", "learning_starts": 20, "policy_kwargs": {"net_arch": [4]},
    "callback": [Own, Handing, Named, {EvalCallback: {"eval_env": env()}}],
}}
"""


def test_a_callback_may_bring_its_own(pyrl, folder):
    (folder / "own.py").write_text(OWN)
    asked = ("--timesteps", 40, "--eval-freq", 0, "--eval-episodes", 1, "--trust", "--save", "runs")
    outcome = pyrl("sac-train", "Pendulum-v1", "--config", "own.py", *asked)
    assert outcome.code == 0, outcome.err

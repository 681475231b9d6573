"""Progress: a bar in a terminal, plain lines elsewhere."""

import io
import os
import signal
import time
from contextlib import closing

import gymnasium as gym
import pytest
from rich.console import Console
from stable_baselines3 import TD3
from stable_baselines3.common.monitor import Monitor

from pyrl_sb3.training.progress import ProgressReport, episodes_bar

# A terminal that cannot, and what TTY_INTERACTIVE=0 says, for example for the logs of CI
NOT_REDRAWN = [{"_environ": {"TERM": "dumb"}}, {"force_interactive": False}]


def progress(terminal, steps=450, **kind):
    text = io.StringIO()
    kind = {"_environ": {"TERM": "xterm"}, **kind}
    console = Console(file=text, force_terminal=terminal, width=120, **kind)
    model = TD3("MlpPolicy", "Pendulum-v1", learning_starts=1000, buffer_size=1000)
    model.learn(steps, callback=ProgressReport(console))
    return text.getvalue(), model.ep_info_buffer


def test_lines_where_nobody_watches():
    text, episodes = progress(terminal=False)
    lines = text.splitlines()
    assert len(lines) == 20
    assert lines[0] == "23/450 steps  no episode finished yet"
    mean = sum(episode["r"] for episode in episodes) / len(episodes)
    assert lines[-1] == f"450/450 steps  return {mean:.2f}"
    assert len(episodes) == 2


@pytest.mark.parametrize("kind", NOT_REDRAWN, ids=str)
def test_lines_where_nothing_can_or_is_to_be_redrawn(kind):
    text, _ = progress(terminal=True, **kind)
    assert len(text.splitlines()) == 20
    assert "\x1b" not in text


def test_an_episode_counts_at_its_last_step():
    text, (episode,) = progress(terminal=False, steps=200)
    lines = text.splitlines()
    assert lines[-2] == "190/200 steps  no episode finished yet"
    assert lines[-1] == f"200/200 steps  return {episode['r']:.2f}"


class Undecided(gym.Wrapper):
    """Has the keys that SB3 looks for, with nothing in them."""

    def step(self, action):
        *outcome, info = super().step(action)
        return *outcome, {"episode": None, **info, "is_success": None}


def test_an_episode_without_a_verdict_is_no_success_and_no_failure():
    text = io.StringIO()
    env = Undecided(Monitor(gym.make("Pendulum-v1", max_episode_steps=10)))
    model = TD3("MlpPolicy", env, learning_starts=1000, buffer_size=1000)
    model.learn(20, callback=ProgressReport(Console(file=text, width=120)))
    assert text.getvalue().splitlines()[-1].startswith("20/20 steps  return -")
    assert "success" not in text.getvalue()


def test_an_algorithm_need_not_tell_callbacks_of_its_variables():
    text = io.StringIO()
    callback = ProgressReport(Console(file=text, width=120))
    model = TD3("MlpPolicy", "Pendulum-v1", buffer_size=10)
    model._setup_learn(2)
    callback.init_callback(model)
    callback.on_training_start({"total_timesteps": 2}, {})
    for model.num_timesteps in (1, 2):
        callback.on_step()
    assert text.getvalue().splitlines()[-1] == "2/2 steps  no episode finished yet"


def test_a_bar_in_a_terminal():
    text, _ = progress(terminal=True)
    assert "450/450 steps" in text
    assert "\x1b[" in text  # it is redrawn in place


def test_a_bar_of_a_training_that_fails_is_taken_away_once_and_the_cursor_comes_back():
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120, _environ={"TERM": "xterm"})
    model = TD3("MlpPolicy", "Pendulum-v1", buffer_size=10)
    model._setup_learn(2)
    with closing(ProgressReport(console)) as shown:
        shown.init_callback(model)
        shown.on_training_start({"total_timesteps": 2}, {})
        assert "\x1b[?25h" not in text.getvalue()
    assert text.getvalue().count("\x1b[?25h") == 1
    ended = text.getvalue()
    shown.close()
    assert text.getvalue() == ended


def episodes_shown(terminal, **kind):
    text = io.StringIO()
    kind = {"_environ": {"TERM": "xterm"}, **kind}
    console = Console(file=text, force_terminal=terminal, width=120, **kind)
    with episodes_bar(console, 3) as shown:
        for ended in (0, 0, 1, 2):
            shown(ended)
    return text.getvalue()


def test_episodes_that_are_waited_for_are_counted_in_a_terminal_and_leave_nothing_behind():
    text = episodes_shown(terminal=True)
    assert "2/3 episodes, 4 steps" in text
    assert text.endswith("\x1b[1A\x1b[2K"), "the bar is still there"


def test_where_nobody_watches_episodes_are_counted_in_silence():
    assert episodes_shown(terminal=False) == ""
    for kind in NOT_REDRAWN:
        assert episodes_shown(terminal=True, **kind) == ""


@pytest.fixture
def default_sigterm():
    """SIGTERM is as in a command that nothing has changed yet."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("default_sigterm")
def test_the_cursor_comes_back_when_a_signal_ends_the_wait():
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120, _environ={"TERM": "xterm"})

    def watch():
        with episodes_bar(console, 3) as shown:
            shown(0)
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL, "it would end the tests"
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(SystemExit) as end:
        watch()
    assert end.value.code == 128 + signal.SIGTERM
    assert "\x1b[?25l" in text.getvalue()
    assert text.getvalue().rindex("\x1b[?25h") > text.getvalue().rindex("\x1b[?25l")

"""Progress: a bar in a terminal, plain lines elsewhere."""

import io

from rich.console import Console
from stable_baselines3 import TD3

from pyrl_sb3.training.progress import ProgressReport


def progress(terminal, steps=450):
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=120)
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


def test_an_episode_counts_at_its_last_step():
    text, (episode,) = progress(terminal=False, steps=200)
    lines = text.splitlines()
    assert lines[-2] == "190/200 steps  no episode finished yet"
    assert lines[-1] == f"200/200 steps  return {episode['r']:.2f}"


def test_a_bar_in_a_terminal():
    text, _ = progress(terminal=True)
    assert "450/450 steps" in text
    assert "\x1b[" in text  # it is redrawn in place

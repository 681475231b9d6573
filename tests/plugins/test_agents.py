"""docs/agents.md: its agent, as an installed plugin, is trained by the commands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "agents.md").read_text()
SHORT = "--timesteps 60 --eval-freq 0 --eval-episodes 1 --set learning_starts=20 --set batch_size=4"


@pytest.fixture
def pyrl(tmp_path):
    """Run a command where the page's plugin is installed; what it prints."""
    site = tmp_path / "site-packages"
    for block in re.findall(r"```python\n(# small_dpg.*?)```", PAGE, re.DOTALL):
        path = site / block.split("\n")[0].removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block)
    info = site / "pyrl_small_dpg-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pyrl-small-dpg\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[pyrl_sb3]\nsmall-dpg = small_dpg.plugin\n")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYRL_")}
    environ["PYTHONPATH"] = os.pathsep.join((str(site), str(ROOT)))

    def call(line, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "pyrl_sb3", *line.split()],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environ,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return call


def test_the_agent_of_the_page_is_trained_resumed_and_tested(pyrl, tmp_path):
    pyrl(f"small-dpg-train Pendulum-v1 --seed 1 {SHORT}")
    run = tmp_path / "small-dpg" / "Pendulum-v1_1"
    assert "name: small-dpg/small-dpg" in (run / "run.yml").read_text()
    assert "100/100 steps" in pyrl(f"small-dpg-train --resume {run} --timesteps 100")
    assert "1 episodes: return -" in pyrl("small-dpg-test Pendulum-v1 --episodes 1")
    assert "return -" in pyrl(f"evaluate {run} --episodes 1")


def test_its_seeds_train_and_synchronise(pyrl, tmp_path):
    pyrl(f"small-dpg-train Pendulum-v1 --seeds 2 --jobs 1 {SHORT}")
    pyrl(f"small-dpg-train Pendulum-v1 --seeds 2 --sync mean --sync-every 30 {SHORT}")
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.glob("small-dpg/*/*/model.zip"))
    assert len(made) == 4, made


def test_a_name_that_is_not_there_gets_the_nearest(pyrl):
    line = "pyrl: No such command 'smal-dpg-train'. Did you mean 'small-dpg-train'"
    assert pyrl("smal-dpg-train Pendulum-v1", code=2).startswith(line)
    assert "small-dpg" in pyrl("list algos")
    assert "No such command" in pyrl("--no-plugins small-dpg-train Pendulum-v1", code=2)

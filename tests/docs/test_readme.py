"""What the README promises comes about; that its Python runs is seen to in `test_pages`."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    example, *_ = blocks(ROOT / "README.md", "python")
    assert len(example.splitlines()) <= 15
    subprocess.run([sys.executable, "-W", "ignore", "-c", example], check=True, cwd=tmp_path)
    assert (tmp_path / "her_sac_reach.zip").is_file()


def test_the_plugin_of_the_readme_passes_its_check_and_trains(tmp_path: Path) -> None:
    (project,) = blocks(ROOT / "README.md", "toml")
    (tmp_path / "kick").mkdir()
    for module in blocks(ROOT / "README.md", "python")[1:]:
        (tmp_path / module.split("\n")[0].removeprefix("# ")).write_text(module)
    # What pip would make of the project's file.
    name, version = re.findall(r'^(?:name|version) = "(.+)"$', project, re.MULTILINE)
    entry = project.partition('entry-points."pyrl_sb3"]')[2].strip().replace('"', "")
    info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[pyrl_sb3]\n{entry}\n")
    pyrl(tmp_path, "plugins", "check", "kick")
    command = "td3-train Pendulum-v1 --noise kick_0.3 --timesteps 40 --seed 1 --eval-freq 0"
    pyrl(tmp_path, *command.split(), "--eval-episodes", "1")
    run = tmp_path / "td3" / "Pendulum-v1_1"
    assert "kick/kick" in (run / "run.yml").read_text()


def pyrl(folder: Path, *arguments: str) -> None:
    """Run the command where `folder` has what is installed."""
    done = subprocess.run(
        [sys.executable, "-m", "pyrl_sb3", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr

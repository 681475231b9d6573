"""What the README promises comes about; that its Python runs is seen to in `test_pages`."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_example_of_the_readme_is_short() -> None:
    example, *_ = blocks(ROOT / "README.md", "python")
    assert len(example.splitlines()) <= 15


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
    train = "td3-train Pendulum-v1 --noise kick_0.3 --timesteps 40 --seed 1 --eval-freq 0"
    code = f"""
from pyrl_sb3.cli.app import run

for line in ("plugins check kick", "{train} --eval-episodes 1"):
    assert run(line.split()) == 0, line
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "td3" / "Pendulum-v1_1"
    assert "kick/kick" in (run / "run.yml").read_text()

"""What installed distributions cost a command: none more, 100 unrelated ones, 100 plugins.

Each round runs `pyrl list noises` with each set of distributions on the path, in turn, in new
processes. Printed are medians with quartiles in milliseconds, and the medians of the differences to
the run without. Also timed: `pyrl --help`, which looks for no plugins.

    python benchmarks/discovery.py [--rounds 15] [--json FILE]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PLUGIN = """
from pyrl_sb3.plugins import NoiseSpec, hookimpl

@hookimpl
def pyrl_noise_processes():
    yield NoiseSpec(name="noise-{i}", target="pyrl_sb3.noise.action:gaussian")
"""


def install(folder: Path, n: int, *, plugins: bool) -> Path:
    """Put distributions into a folder as an installer would."""
    folder.mkdir()
    for i in range(n):
        module = f"discovered_{i}"
        (folder / f"{module}.py").write_text(PLUGIN.format(i=i))
        about = folder / f"{module}-1.0.dist-info"
        about.mkdir()
        about.joinpath("METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n\n"
            + "A long description.\n" * 50
        )
        group = "pyrl_sb3" if plugins else "console_scripts"
        about.joinpath("entry_points.txt").write_text(f"[{group}]\ndiscovered-{i} = {module}\n")
    return folder


def milliseconds(path: str, *arguments: str) -> float:
    """Of a whole command."""
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-m", "pyrl_sb3", *arguments]
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", help="also write the results to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        some = {
            "none more": "",
            "100 unrelated": str(install(Path(parent, "unrelated"), 100, plugins=False)),
            "10 plugins": str(install(Path(parent, "ten"), 10, plugins=True)),
            "100 plugins": str(install(Path(parent, "plugins"), 100, plugins=True)),
        }
        times: dict[str, list[float]] = {name: [] for name in (*some, "pyrl --help")}
        for _ in range(args.rounds + 1):
            for name, path in some.items():
                times[name].append(milliseconds(path, "list", "noises"))
            times["pyrl --help"].append(milliseconds("", "--help"))
    results = {}
    for name, values in times.items():
        each = np.array(values[1:])  # the first compiles
        added = float(np.median(each - times["none more"][1:]))
        low, median, high = np.quantile(each, [0.25, 0.5, 0.75]).tolist()
        results[name] = {"median": median, "q25": low, "q75": high, "added": added}
        print(f"{name:16} {median:7.0f} ms [{low:.0f} {high:.0f}]", end="")
        print(f", {added:+.0f} ms" if name in some else "")
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

"""
The package as it is released: source archive and wheel are built, checked, and tried in a new
virtual environment where there is no source tree. ``make test-release`` runs this; it takes
minutes, and installs from the package index.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent

_JOBS = "training/sync/test_jobs.py"
# The part of the suite that shows that everything is there and works, in a minute or two. The
# environments of gymnasium-robotics are not needed: its oldest needs a newer gymnasium than we do.
ESSENTIAL = (
    *("algorithms/test_steps.py", "algorithms/test_saving.py", "buffers/test_store.py"),
    *("buffers/test_files.py", "buffers/test_sb3_models.py", "cli/test_help.py"),
    *("config/test_experiment.py", "config/test_zoo.py"),
    *("noise", "plugins/test_lookup.py", "plugins/test_kit.py", "policies"),
    *("release/test_version.py", "training/test_untrusted.py"),
    *("training/test_progress.py", f"{_JOBS}::test_copies_are_one_agent_and_runs_are_marked"),
)

# What a wheel must have besides modules, and what none may have.
DATA = (
    *("pyrl_sb3/py.typed", "pyrl_sb3/hyperparams/sac.yml", "pyrl_sb3/hyperparams/her-td3.yml"),
    "pyrl_sb3/pretrained/her-td3/FetchPickAndPlace-v4/model.zip",
)
FOREIGN = ("tests/", "docs/", "benchmarks/", "plugins/")

TRAIN = ("sac-train", "Pendulum-v1", "--timesteps", "300", "--seed", "1", "--eval-episodes", "1")


def main() -> None:
    """Build, check, install, use; stops at the first thing that is not as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dist", type=Path, help="where to leave the two files")
    parser.add_argument("--constraints", type=Path, help="versions to try it with")
    parser.add_argument("--latest", action="store_true", help="try the newest versions instead")
    asked = parser.parse_args()
    constraints = asked.constraints or ROOT / "constraints.txt"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sdist, wheel = build(folder / "dist")
        check_contents(sdist, wheel)
        pins = () if asked.latest else ("--constraint", str(constraints.resolve()))
        python = install(folder / "venv", wheel, pins)
        check_command(python, folder)
        check_types(python, folder)
        check_suite(python, sdist, folder)
        if asked.dist:
            asked.dist.mkdir(parents=True, exist_ok=True)
            for file in (sdist, wheel):
                shutil.copy(file, asked.dist)
    print("== all as promised")


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command; what it printed, or the end of the program with it."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stdout}")
    return done.stdout


def build(dist: Path) -> tuple[Path, Path]:
    """Build the source archive, and the wheel from that archive."""
    print("== building", flush=True)
    run(sys.executable, "-m", "build", "--outdir", dist, ROOT)
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    return sdist, wheel


def check_contents(sdist: Path, wheel: Path) -> None:
    """The wheel has the package alone, the archive all that it is built and tested from."""
    version = re.search(r'__version__ = "(.+)"', (ROOT / "pyrl_sb3/__init__.py").read_text())
    require(version is not None and f"-{version[1]}-" in wheel.name, f"version of {wheel.name}")
    names = zipfile.ZipFile(wheel).namelist()
    require(set(DATA) <= set(names), f"{wheel.name} lacks one of {DATA}")
    require(not [name for name in names if name.startswith(FOREIGN)], f"too much in {wheel.name}")
    with tarfile.open(sdist) as archive:
        parts = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    expected = {"pyrl_sb3", "tests", "docs", "CHANGELOG.md", "LICENSE", "constraints.txt"}
    require(expected <= parts, f"{sdist.name} lacks {expected - parts}")
    require(not {".venv", "dist", ".git"} & parts, f"too much in {sdist.name}: {sorted(parts)}")
    print(f"== {sdist.name}, {wheel.name}: {len(names)} files", flush=True)


def install(folder: Path, wheel: Path, pins: tuple[str, ...]) -> Path:
    """Make an environment with the wheel in it; its Python."""
    print("== installing the wheel", flush=True)
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins)
    run(*pip, "pip>=25.1")  # older ones may look for versions for minutes
    run(*pip, "torch")
    run(*pip, f"{wheel}[report,tensorboard]", "pytest", "hypothesis", "mypy", "types-PyYAML")
    versions = run(python, "-m", "pip", "list", "--format", "freeze").splitlines()
    used = re.compile("(torch|gymnasium|stable[-_]baselines3|sb3[-_]contrib|numpy)==")
    print("   ", *(line for line in versions if used.match(line)), flush=True)
    return python


def check_command(python: Path, folder: Path) -> None:
    """`pyrl` trains, tests and resumes in an empty folder."""
    print("== the command", flush=True)
    work = folder / "work"
    work.mkdir()
    pyrl = python.with_name("pyrl")
    where = run(python, "-c", "import pyrl_sb3; print(pyrl_sb3.__file__)", cwd=work)
    require("site-packages" in where, f"pyrl_sb3 is imported from {where}")
    run(pyrl, *TRAIN, "--eval-freq", "0", cwd=work)
    run(pyrl, "sac-test", "Pendulum-v1", "--episodes", "1", cwd=work)
    run(pyrl, "sac-train", "--resume", "sac/Pendulum-v1_1", "--timesteps", "400", cwd=work)
    run(pyrl, "plot", "sac/Pendulum-v1_1", "--training", cwd=work)
    run(pyrl, "plugins", "doctor", cwd=work)


def check_types(python: Path, folder: Path) -> None:
    """Another project's type checker sees the types of the installed package."""
    print("== types, from outside", flush=True)
    work = folder / "work"
    for script in ("user.py", "mistakes.py"):
        shutil.copy(HERE / script, work)
    mypy = (python, "-m", "mypy", "--strict", "--no-incremental")
    run(*mypy, "user.py", cwd=work)
    found = subprocess.run([*mypy, "mistakes.py"], cwd=work, capture_output=True, text=True).stdout
    lines = {int(number) for number in re.findall(r"^mistakes\.py:(\d+): error", found, re.M)}
    calls = (work / "mistakes.py").read_text().splitlines()
    wrong = {
        n for n, line in enumerate(calls, 1) if re.match(r"(from pyrl_sb3 import PPO|\w.*\()", line)
    }
    require(lines == wrong, f"mypy should refuse the lines {sorted(wrong)}, and says:\n{found}")


def check_suite(python: Path, sdist: Path, folder: Path) -> None:
    """The tests of the archive pass beside the installed wheel, without the archive's package."""
    print("== the essential part of the suite", flush=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    source = folder / sdist.name.removesuffix(".tar.gz")
    shutil.rmtree(source / "pyrl_sb3")
    tests = [f"tests/{part}" for part in ESSENTIAL]
    out = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=source)
    print("   ", out.strip().splitlines()[-1], flush=True)


def require(condition: bool, problem: str) -> None:
    """Stop with `problem` unless `condition` holds."""
    if not condition:
        sys.exit(problem)


if __name__ == "__main__":
    main()

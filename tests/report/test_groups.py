"""Groups as reports read them: what is scored, what is marked, what counts as failed."""

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from pyrl_sb3.cli.app import app
from pyrl_sb3.config import ConfigError
from pyrl_sb3.config.documents import write_yaml
from pyrl_sb3.report.groups import read_groups
from pyrl_sb3.report.summary import improvements, summarise
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.facts import (
    add_resumption,
    read_facts,
    read_written,
    request_written,
)
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.seeds import SeedGroup, read_group, write_group
from pyrl_sb3.training.trial import best_seed

REQUEST = TrainingRequest(agent="sac", env_id="Pendulum-v1", timesteps=30)


def make_group(folder: Path, *, couples_seeds: bool) -> Path:
    """Three seeds, of which the third never began; the second reached a return of 5 at once."""
    group = SeedGroup(folder=folder, seeds=(0, 1, 2), request=REQUEST, couples_seeds=couples_seeds)
    folder.mkdir()
    write_group(group)
    for seed, returns in ((0, [1.0, 2.0, 3.0]), (1, [5.0, 6.0, 7.0])):
        run = group.run(seed)
        run.mkdir()
        with zipfile.ZipFile(run / "model.zip", "w") as model:
            model.writestr("data", json.dumps({"num_timesteps": 30}))
        facts = {"request": request_written(REQUEST), "components": [], "versions": {}}
        (run / "run.yml").write_text(yaml.safe_dump({**facts, "resumed": []}))
        results = np.array(returns)[:, None] + [[-1.0, 1.0]]
        np.savez(run / "evaluations.npz", timesteps=[10, 20, 30], results=results)
        (run / "0.monitor.csv").write_text("#{}\nr,l,t\n0,10,2.0\n0,10,4.0\n0,10,6.0\n")
    return folder


def test_scores_times_and_failures(tmp_path):
    groups = read_groups([make_group(tmp_path / "a", couples_seeds=False)])
    (summary,) = summarise(groups, threshold=5.0, seed=0, reps=500)
    assert (summary.scores, summary.runs, summary.failed) == ([3.0, 7.0], 2, 1)
    assert summary.iqm.value == 5.0
    assert (summary.iqm.low, summary.iqm.high) == (3.0, 7.0)
    assert summary.optimality_gap is not None
    assert summary.optimality_gap.value == 1.0
    # One of two never got there, so half did: there is no middle between a number and never.
    assert (summary.reached, summary.steps, summary.seconds) == (1, None, None)
    (summary,) = summarise(groups, threshold=3.0, seed=0, reps=500)
    assert (summary.reached, summary.steps, summary.seconds) == (2, 20.0, 4.0)


@pytest.mark.parametrize("rest", ["0,1", "\0\0\0\0"])  # what full disks and crashes leave
def test_the_unfinished_last_line_of_a_log_is_no_episode(tmp_path, rest):
    folder = make_group(tmp_path / "a", couples_seeds=False)
    (before,) = read_groups([folder])
    with (folder / "seed_1" / "0.monitor.csv").open("a") as log:
        log.write(rest)
    (group,) = read_groups([folder])
    assert [each.tolist() for each in group.seconds["Pendulum-v1"]] == [
        each.tolist() for each in before.seconds["Pendulum-v1"]
    ]
    assert not group.untimed


def test_a_damaged_log_of_the_training_is_named_and_costs_only_its_seconds(tmp_path):
    folder = make_group(tmp_path / "a", couples_seeds=False)
    with (folder / "seed_1" / "0.monitor.csv").open("a") as file:
        file.write("0,x,8.0\n")
    arguments = ["report", str(folder), "--threshold", "3", "--reps", "100"]
    outcome = CliRunner().invoke(app, [*arguments, "--json"])
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stderr.count("\n") == 1
    log = folder / "seed_1" / "0.monitor.csv"
    assert outcome.stderr.startswith(f"{log.parent} has no seconds: {log} cannot be read: ")
    assert outcome.stderr.endswith(" (line 6)\n")
    (found,) = json.loads(outcome.stdout)["groups"]
    # The middle of 10 and 30 steps; of seconds, only those of the other seed are known.
    assert (found["runs"], found["reached"], found["steps"], found["seconds"]) == (2, 2, 20.0, 6.0)
    (folder / "seed_0" / "0.monitor.csv").write_text("#{}\nr,l,t\n0,x,2.0\n")
    outcome = CliRunner().invoke(app, arguments)
    assert [line.split() for line in outcome.stdout.splitlines() if "seconds" in line] == [
        ["seconds", "to", "it", "-"]
    ]


def test_what_half_of_the_runs_reach_and_intervals_that_nothing_has(tmp_path):
    folder = make_group(tmp_path / "a", couples_seeds=False)
    arguments = ["report", str(folder), "--threshold", "5", "--reps", "100"]
    out = CliRunner().invoke(app, arguments).stdout
    assert [line.split() for line in out.splitlines() if line.startswith(("reached", "steps"))] == [
        ["reached", "1/2"],
        ["steps", "to", "it", "not", "by", "most"],
    ]
    assert "Fewer than 10 runs: intervals are rough." in out
    alone = CliRunner().invoke(app, ["report", str(folder / "seed_0"), "--reps", "100"]).stdout
    assert "intervals are rough" not in alone


@pytest.mark.parametrize("log", [None, "", "#{}\nr,l,t\n", "#{}\nr,l,t\n0,10", "a folder"])
def test_without_a_finished_episode_the_seconds_are_not_known(tmp_path, log):
    folder = make_group(tmp_path / "a", couples_seeds=False)
    run = folder / "seed_1"
    (run / "0.monitor.csv").unlink()
    if log == "a folder":
        (run / "0.monitor.csv").mkdir()
    elif log is not None:
        (run / "0.monitor.csv").write_text(log)
    groups = read_groups([folder])
    first, second = groups[0].seconds["Pendulum-v1"]
    assert (first.tolist(), second) == ([2.0, 4.0, 6.0], None)
    assert list(groups[0].untimed) == [run]
    (summary,) = summarise(groups, threshold=3.0, seed=0, reps=100)
    assert (summary.steps, summary.seconds) == (20.0, 6.0)


def test_a_damaged_run_of_a_group_is_named_and_has_failed(tmp_path):
    folder = make_group(tmp_path / "a", couples_seeds=False)
    (folder / "seed_1/run.yml").write_text("request: [1]")
    for evaluated in (True, False):
        if not evaluated:
            (folder / "seed_1/evaluations.npz").unlink()
        (group,) = read_groups([folder])
        assert "run.yml cannot be read as a run's" in group.damaged[folder / "seed_1"]
        assert group.failed == [folder / "seed_2", folder / "seed_1"]
        assert not group.unevaluated
        assert len(group.curves["Pendulum-v1"]) == 1


@pytest.mark.parametrize("name", ["run.yml", "config.yml"])
def test_a_damaged_run_of_no_group_leaves_the_others_alone(tmp_path, name):
    good, bad = (make_run(tmp_path / each, [10]) for each in "ab")
    (bad / name).write_text("request: [1")
    arguments = ["report", str(good), str(bad), "--label", "A", "--reps", "100", "--json"]
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 0, outcome.output
    assert [each["label"] for each in json.loads(outcome.stdout)["groups"]] == ["A"]
    (line,) = (line for line in outcome.stderr.splitlines() if "left out" in line)
    assert line.startswith(f"{bad} is left out: ")
    assert name in line


def test_copies_that_learn_from_each_other_have_no_interval(tmp_path):
    groups = read_groups([make_group(tmp_path / "a", couples_seeds=True)])
    (summary,) = summarise(groups, threshold=None, seed=0, reps=500)
    assert summary.couples_seeds
    for estimate in (summary.iqm, summary.median, summary.mean):
        assert (estimate.value, estimate.low, estimate.high) == (5.0, None, None)


@pytest.mark.parametrize("coupled", [(True, False), (False, True), (False, False)])
def test_copies_that_learn_from_each_other_are_compared_without_an_interval(tmp_path, coupled):
    folders = [
        make_group(tmp_path / name, couples_seeds=each)
        for name, each in zip("ab", coupled, strict=True)
    ]
    ((found),) = improvements(read_groups(folders), seed=0)
    assert found["value"] == 0.5
    assert (found["low"] is None, found["high"] is None) == (any(coupled), any(coupled))


def test_all_pairs_of_groups_are_compared(tmp_path):
    groups = read_groups([make_group(tmp_path / name, couples_seeds=False) for name in "abc"])
    found = improvements(groups, seed=0)
    names = [(each["x"][-1], each["y"][-1]) for each in found]
    assert names == [("a", "b"), ("a", "c"), ("b", "c")]
    # The resamples of each pair are those of the seed.
    assert len({(each["low"], each["high"]) for each in found}) == 1


def test_runs_without_evaluations_are_named(tmp_path):
    group, other = (make_group(tmp_path / name, couples_seeds=False) for name in "ab")
    for folder in (group / "seed_1", other / "seed_0", other / "seed_1"):
        (folder / "evaluations.npz").unlink()
    outcome = CliRunner().invoke(app, ["report", str(group), str(other), "--reps", "200"])
    assert outcome.exit_code == 0, outcome.output
    lines = outcome.stderr.splitlines()
    assert [line.split(" has no evaluations")[0] for line in lines] == [
        *(str(group / "seed_1"), str(other / "seed_0"), str(other / "seed_1"))
    ]


def test_it_does_not_matter_where_the_number_of_environments_was_said(tmp_path):
    group = make_group(tmp_path / "group", couples_seeds=False)
    runs = [group / "seed_0", group / "seed_1"]
    for run, said in zip(runs, ({}, {"n_envs": 1}), strict=True):
        entry = {"policy": "MlpPolicy", "n_timesteps": 30, **said}
        (run / "config.yml").write_text(yaml.safe_dump({"default": entry}))
        shutil.move(run, tmp_path / run.name)
    (found,) = read_groups([tmp_path / run.name for run in runs])
    assert len(found.curves["Pendulum-v1"]) == 2


def test_labels_must_fit(tmp_path):
    folder = make_group(tmp_path / "a", couples_seeds=False)
    assert read_groups([folder, folder], ["A"])[0].label == "A"
    with pytest.raises(ValueError, match="2 for 1 groups"):
        read_groups([folder], ["A", "B"])


def make_run(folder: Path, steps: list[int], **asked: object) -> Path:
    """A run of its own, which was evaluated at these steps."""
    folder.mkdir()
    request = replace(REQUEST, **{"n_envs": 1, **asked})
    facts = {"request": request_written(request), "components": [], "versions": {}}
    (folder / "run.yml").write_text(yaml.safe_dump({**facts, "resumed": []}))
    (folder / "config.yml").write_text("Pendulum-v1: {gamma: 0.98}")
    np.savez(folder / "evaluations.npz", timesteps=steps, results=np.zeros((len(steps), 2)))
    return folder


def test_other_settings_on_the_command_line_are_another_group(tmp_path):
    asked = [{"seed": 1}, {"seed": 2}, {"n_envs": 4}, {"stock": True}]
    runs = [make_run(tmp_path / str(i), [10], **each) for i, each in enumerate(asked)]
    sizes = [len(group.curves["Pendulum-v1"]) for group in read_groups(runs)]
    assert sizes == [2, 1, 1]


def test_runs_with_objects_of_the_same_config_in_python_are_one_group(tmp_path):
    runs = [make_run(tmp_path / str(i), [10], seed=i) for i in range(6)]
    texts = ["<function rate at 0x7f53>", "<function rate at 0x7fa1>"] * 3
    for run, text, digest in zip(runs, texts, ("a", "a", "b", "b", None, None), strict=True):
        (run / "config.yml").write_text(f"Pendulum-v1: {{learning_rate: {text}}}")
        facts = yaml.safe_load((run / "run.yml").read_text())
        objects = {"unwritable": {"learning_rate": text}}
        said = {"config_sha256": digest, **objects} if digest else {}
        (run / "run.yml").write_text(yaml.safe_dump({**facts, **said}))
    sizes = [len(group.curves["Pendulum-v1"]) for group in read_groups(runs)]
    assert sizes == [2, 2, 1, 1]  # a function of another file may be another, or of no known one


def test_runs_without_objects_are_one_group_by_their_values(tmp_path):
    """Whatever else is in the config in Python that said them."""
    runs = [make_run(tmp_path / digest, [10]) for digest in "ab"]
    for run in runs:
        facts = yaml.safe_load((run / "run.yml").read_text())
        (run / "run.yml").write_text(yaml.safe_dump({**facts, "config_sha256": run.name}))
    (group,) = read_groups(runs)
    assert len(group.curves["Pendulum-v1"]) == 2


BOMB = b"a: &a [x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (i, i, b",".join([b"*%c" % (i - 1)] * 9)) for i in range(98, 110)
)
DAMAGED = {
    "a bomb": (BOMB, "aliases expand to more than 50000 values"),
    "deep": (b"[" * 3000, "nested more than 30 levels deep"),
    "an object": (b"a: !!python/object:os.system {}", "the tag .*python/object.* is not read"),
    "no text": (b"\xff\xfe", "not UTF-8|can't decode"),
    "zeros": (b"\0" * 100, "cannot stand in YAML"),
    "open": (b"{a", r":1: "),
    "large": (b"#" * 2**21, "larger than"),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_configs_runs_and_groups_of_strangers_are_read_within_bounds(tmp_path, content, message):
    run = make_run(tmp_path / "a", [10])
    (run / "config.yml").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"config\.yml.*{message}"):
        read_groups([run])
    (run / "run.yml").write_bytes(content)
    with pytest.raises(InputError, match=rf"run\.yml cannot be read as a run's: .*{message}"):
        read_groups([run])
    (tmp_path / "seeds.yml").write_bytes(content)
    with pytest.raises(InputError, match=rf"seeds\.yml cannot be read as a group's: .*{message}"):
        read_group(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("pyrl_sb3: 0.1.0\n", "it has no '(resumed|sync)'"),
        ("- 1\n", "it has another form than it should"),
        ("", "it has another form than it should"),
        ("resumed: []\ncomponents: []\nsync:\nseeds: 1\n", "it has (no 'request'|another form .*)"),
    ],
)
def test_what_damaged_runs_and_groups_lack_is_said(tmp_path, content, problem):
    for name, read in (("run.yml", read_facts), ("seeds.yml", read_group)):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=rf"{name} cannot be read as a \w+'s: {problem}$"):
            read(tmp_path)


def test_what_a_request_knows_nothing_of_is_named(tmp_path):
    run = make_run(tmp_path / "a", [10])
    facts = read_written(run / "run.yml")
    facts["request"]["later"] = 1
    (run / "run.yml").write_text(yaml.safe_dump(facts))
    with pytest.raises(
        InputError, match=r"cannot be read as a run's: later: no option of this ver"
    ):
        read_groups([run])


ANYTHING = [-1, 1.5, [], {}, [["a"]], None]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("agent", "env_id", "device") for value in [*ANYTHING, True]),
        *((name, value) for name in ("keep_last", "exact") for value in [*ANYTHING, "1"]),
        *(("save", 5), ("overrides", [["a"]]), ("overrides", "a"), ("timesteps", True)),
    ],
    ids=str,
)
def test_what_was_asked_for_must_be_of_its_type(tmp_path, name, value):
    run = make_run(tmp_path / "a", [10])
    facts = yaml.safe_load((run / "run.yml").read_text())
    facts["request"][name] = value
    (run / "run.yml").write_text(yaml.safe_dump(facts))
    with pytest.raises(InputError, match=r"run\.yml cannot be read as a run's: .*must be "):
        read_groups([run])


@pytest.mark.parametrize("write", [write_yaml, yaml.safe_dump])  # as before there was ours
def test_names_that_look_like_numbers_stay_names(tmp_path, write):
    run = make_run(tmp_path / "a", [10])
    facts = {**read_written(run / "run.yml"), "resumed": []}
    facts["request"] |= {"save": "1e5", "overrides": ["a=[1]"], "noise": "7"}
    (run / "run.yml").write_text(write(facts))
    request = read_facts(run).request
    assert (request.save, request.overrides, request.noise) == (Path("1e5"), ("a=[1]",), "7")
    add_resumption(run, 10, 20)
    assert read_facts(run).timesteps == 20
    assert read_facts(run).request == request


def test_runs_that_go_on_again_and_again_tell_of_the_last_times(tmp_path, monkeypatch):
    monkeypatch.setattr("pyrl_sb3.training.facts._MOST_RESUMPTIONS", 3)
    run = make_run(tmp_path / "a", [10])
    written = {**read_written(run / "run.yml"), "resumed": []}
    (run / "run.yml").write_text(write_yaml(written))
    for after in range(10, 60, 10):
        add_resumption(run, after, after + 20)
    resumed = read_written(run / "run.yml")["resumed"]
    assert [each["after"] for each in resumed] == [30, 40, 50]
    assert read_facts(run).timesteps == 70


@pytest.mark.parametrize("steps", [([10], [20]), ([10], [10])])
def test_runs_with_no_step_or_one_in_common_are_drawn(steps, tmp_path):
    for i, each in enumerate(steps):
        make_run(tmp_path / str(i), each)
    arguments = ["report", str(tmp_path), "--reps", "100", "--out", str(tmp_path / "figures")]
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 0, outcome.output
    assert (tmp_path / "figures" / "Pendulum-v1_curves.png").is_file()


def spoil(run: Path, returns: list[float], steps: tuple[int, ...] = (10, 20, 30)) -> Path:
    """A run with other returns, one episode each."""
    np.savez(run / "evaluations.npz", timesteps=steps, results=np.array(returns)[:, None])
    return run


@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.inf])
def test_a_run_that_ends_with_no_number_has_failed_with_the_worst_score(tmp_path, bad):
    folder = make_group(tmp_path / "a", couples_seeds=False)
    run = spoil(folder / "seed_0", [2.0, 4.0, bad])
    other = make_group(tmp_path / "b", couples_seeds=False)
    group, _ = groups = read_groups([folder, other])
    assert group.diverged == [run]
    assert group.failed == [folder / "seed_2", run]
    first, second = summarise(groups, threshold=4.0, seed=0, reps=100)
    assert first.scores == [2.0, 7.0]
    assert (first.runs, first.failed, first.reached) == (2, 2, 2)
    assert second.scores == [3.0, 7.0]
    arguments = ["report", str(folder), str(other), "--reps", "100", "--json"]
    outcome = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "figures")])
    assert outcome.exit_code == 0, outcome.output
    json.loads(outcome.stdout, parse_constant=pytest.fail)
    said = f"{run} has failed: its last score is no finite number; scored by the worst"
    assert outcome.stderr.startswith(said)


def test_a_group_without_any_number_is_left_out(tmp_path):
    folder = make_group(tmp_path / "a", couples_seeds=False)
    lost = spoil(make_run(tmp_path / "b", [10]), [np.nan], (10,))
    outcome = CliRunner().invoke(app, ["report", str(folder), str(lost), "--reps", "100", "--json"])
    assert outcome.exit_code == 0, outcome.output
    assert len(json.loads(outcome.stdout)["groups"]) == 1
    assert "left out, as its group had none" in outcome.stderr
    with pytest.raises(InputError, match="no run there had a return that is a finite number"):
        read_groups([lost])


@pytest.mark.parametrize("first", [[1.0, np.nan], [1.0, -np.inf], [np.inf, -np.inf]])
def test_the_best_seed_is_one_that_ended_with_a_number(tmp_path, first):
    folder = make_group(tmp_path / "a", couples_seeds=False)
    results = np.array([first])
    np.savez(folder / "seed_0" / "evaluations.npz", timesteps=[30], results=results)
    assert best_seed(read_group(folder)) == folder / "seed_1"


@pytest.mark.parametrize("threshold", ["nan", "inf", "-inf"])
def test_thresholds_are_numbers(tmp_path, threshold):
    folder = make_group(tmp_path / "a", couples_seeds=False)
    outcome = CliRunner().invoke(app, ["report", str(folder), "--threshold", threshold])
    assert isinstance(outcome.exception, InputError)
    expected = f"--threshold {threshold}: must be a finite number, such as -200"
    assert str(outcome.exception) == expected


def test_of_evaluations_at_the_same_step_the_last_counts(tmp_path):
    folder = make_group(tmp_path / "a", couples_seeds=False)
    spoil(folder / "seed_0", [1.0, 2.0, 9.0, 3.0], (10, 20, 20, 30))
    (group,) = read_groups([folder])
    curve = group.curves["Pendulum-v1"][0]
    assert curve.steps.tolist() == [10, 20, 30]
    assert curve.returns.tolist() == [1.0, 9.0, 3.0]
    arguments = ["report", str(folder), "--reps", "100", "--out", str(tmp_path / "figures")]
    assert CliRunner().invoke(app, arguments).exit_code == 0


@pytest.mark.parametrize("columns", [None, "40"])
def test_no_digit_and_no_letter_of_a_table_is_left_out(tmp_path, monkeypatch, columns):
    """In a file, whose lines have no end, and in a narrow terminal."""
    runs = [make_group(tmp_path / name, couples_seeds=False) for name in "abc"]
    labels = [f"{letter}_{20 * letter}" for letter in "abc"]
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    named = [f"--label={label}" for label in labels]
    outcome = CliRunner().invoke(app, ["report", *map(str, runs), *named, "--reps", "100"])
    assert outcome.exit_code == 0, outcome.output
    table = outcome.stdout.split("Scores:")[0]
    assert "…" not in table
    assert table.count("5.00") == 9  # three means of each group
    if columns:
        assert max(map(len, table.splitlines())) <= 40
        assert [table.count(letter) for letter in "abc"] >= [22, 22, 22]
    else:
        assert table.split()[1:4] == labels
        assert table.count("5.00 [3.00, 7.00]") == 9


def succeed(run: Path, rates: list[float]) -> None:
    """Rates of success at 10 and 20 steps, with returns that are the better the fewer these are."""
    values = np.array(rates)[:, None]
    np.savez(run / "evaluations.npz", timesteps=[10, 20], results=-values, successes=values)


def test_a_rate_of_success_that_is_no_number_is_the_worst_there_is(tmp_path):
    runs = [make_run(tmp_path / name, [10, 20]) for name in "ab"]
    succeed(runs[0], [0.25, 0.5])
    succeed(runs[1], [1.0, np.nan])
    (group,) = read_groups(runs)
    assert group.diverged == [runs[1]]
    (summary,) = summarise([group], threshold=None, seed=0, reps=10)
    assert (summary.score, summary.scores) == ("success", [0.5, 0.25])


def test_rates_of_success_are_scored_and_alone_have_a_target_of_their_own(tmp_path):
    runs = [make_run(tmp_path / name, [10, 20]) for name in "ab"]
    (summary,) = summarise(read_groups(runs), threshold=None, seed=0, reps=10)
    assert (summary.score, summary.optimality_gap, summary.reached) == ("return", None, None)
    assert (summary.steps, summary.seconds, summary.last_steps) == (None, None, [20, 20])
    for run in runs:
        succeed(run, [0.5, 1.0])
    (summary,) = summarise(read_groups(runs), threshold=None, seed=0, reps=10)
    assert (summary.score, summary.reached, summary.steps) == ("success", 2, 20)
    assert summary.optimality_gap.value == 0
    (summary,) = summarise(read_groups(runs), threshold=0.5, seed=0, reps=10)
    assert (summary.reached, summary.steps) == (2, 10)


def test_runs_without_any_evaluation_are_nothing_to_report(tmp_path):
    run = make_run(tmp_path / "a", [10])
    path = run / "evaluations.npz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=r"evaluations\.npz"):
        read_groups([run])
    path.unlink()
    with pytest.raises(InputError, match=r"^no run there has an evaluations\.npz yet"):
        read_groups([run])


def say(run: Path, successes: list[float] | None) -> Path:
    """Returns of -1, -2 and so on, with these outcomes, if any; NaN says none."""
    returns = -np.arange(1.0, 1 + len(successes or [0, 0, 0]))[:, None]
    tables = {} if successes is None else {"successes": np.array(successes)[:, None]}
    np.savez(run / "evaluations.npz", timesteps=-10 * returns[:, 0], results=returns, **tables)
    return run


@pytest.mark.parametrize("none", [None, [np.nan] * 3], ids=["no table", "all unknown"])
@pytest.mark.parametrize("beside", [True, False], ids=["one group", "another group"])
def test_where_a_run_never_says_success_all_are_scored_by_returns(tmp_path, none, beside):
    asked = {} if beside else {"n_envs": 2}
    runs = [make_run(tmp_path / "a", [10]), make_run(tmp_path / "b", [10], **asked)]
    groups = read_groups([say(runs[0], [0.0, 0.5, 1.0]), say(runs[1], none)])
    found = summarise(groups, threshold=None, seed=0, reps=10)
    assert [each.scores for each in found] == ([[-3.0, -3.0]] if beside else [[-3.0], [-3.0]])
    assert {(each.score, each.reached) for each in found} == {("return", None)}
    assert not any(group.diverged for group in groups)
    assert [each["value"] for each in improvements(groups, seed=0)] == ([] if beside else [0.5])


def test_an_evaluation_that_says_no_success_counts_as_the_one_before(tmp_path):
    runs = [make_run(tmp_path / name, [10]) for name in "abc"]
    say(runs[0], [0.0, 0.5, np.nan])
    say(runs[1], [np.nan, 1.0, np.nan])
    say(runs[2], [0.0, 0.0, 0.25])
    (group,) = read_groups(runs)
    assert group.diverged == []
    first, second, _ = group.curves["Pendulum-v1"]
    assert (first.steps.tolist(), first.successes.tolist()) == ([10, 20, 30], [0, 0.5, 0.5])
    # Before the first that says it there is nothing to be scored by.
    assert (second.steps.tolist(), second.successes.tolist()) == ([20, 30], [1, 1])
    assert (second.returns.tolist(), second.spread.tolist()) == ([-2, -3], [0, 0])
    (summary,) = summarise([group], threshold=None, seed=0, reps=10)
    assert (summary.score, summary.scores) == ("success", [0.5, 1.0, 0.25])
    assert (summary.reached, summary.last_steps) == (1, [30, 30, 30])


def test_a_report_in_markdown_is_one_table_and_marks_copies(tmp_path):
    folders = [make_group(tmp_path / name, couples_seeds=name == "b") for name in "ab"]
    words = ("--markdown", "--reps", "100")
    out = CliRunner().invoke(app, ["report", *map(str, folders), *words]).stdout
    table = [row for row in out.splitlines() if row.startswith("|")]
    header, line, *rows = [row.strip("|").split(" | ") for row in table]
    assert (len(header), len(rows)) == (11, 2)
    assert line == [" ---", *["---"] * 9, "--- "]
    assert [row[0] for row in rows] == [f" {folders[0]}", f" {folders[1]} (coupled)"]
    assert "one sample, no interval" in out
    alone = CliRunner().invoke(app, ["report", str(folders[0]), *words])
    assert "coupled" not in alone.stdout


def test_reports_say_of_runs_that_are_not_equally_long_and_of_failed_ones(tmp_path):
    group = make_group(tmp_path / "a", couples_seeds=False)  # of which the third never began

    def said():
        out = CliRunner().invoke(app, ["report", str(group), "--reps", "100"]).stdout
        return "Not all runs of a group are equally long" in out, "Failed runs are scored" in out

    assert said() == (False, True)
    shutil.copytree(group / "seed_1", group / "seed_2")
    assert said() == (False, False)
    np.savez(group / "seed_2/evaluations.npz", timesteps=[10, 20], results=np.zeros((2, 2)))
    assert said() == (True, False)


def test_labels_are_printed_as_they_are(tmp_path):
    folder = make_group(tmp_path / "a", couples_seeds=False)
    words = ("--label", "[bold]A", "--reps", "100")
    assert "[bold]A" in CliRunner().invoke(app, ["report", str(folder), *words]).stdout

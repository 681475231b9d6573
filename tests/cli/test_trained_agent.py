"""`--trained-agent` on the command line: of several seeds, and repeated with --resume."""

import shutil

import pytest
import yaml

LINE = ("sac-train", "Pendulum-v1", "--timesteps", 20, "--eval-freq", 0, "--eval-episodes", 1)
LINE += ("--set", "policy_kwargs.net_arch=[4]", "--set", "env_kwargs={max_episode_steps: 10}")


def test_seeds_begin_with_the_same_agent(pyrl, folder):
    assert pyrl(*LINE, "--seed", 1).code == 0
    first = folder / "sac" / "Pendulum-v1_1" / "model.zip"
    for more in (("--save", "seeds"), ("--sync", "mean", "--sync-every", 10, "--save", "sync")):
        outcome = pyrl(*LINE, "--seeds", 2, "--trained-agent", "sac", *more)
        assert outcome.code == 0, outcome.err
        group = folder / more[-1] / "Pendulum-v1_1"
        for file in ("seeds.yml", "seed_0/run.yml", "seed_1/run.yml"):
            noted = yaml.safe_load((group / file).read_text())["request"]["trained_agent"]
            assert noted == str(first)
    # Of a group it is the best, and that of copies.
    for group, place in (("seeds", "seed_"), ("sync", "model.zip")):
        again = pyrl(*LINE, "--seed", 1, "--trained-agent", group, "--save", f"after_{group}")
        assert again.code == 0, again.err
        file = folder / f"after_{group}" / "Pendulum-v1_1" / "run.yml"
        noted = yaml.safe_load(file.read_text())["request"]["trained_agent"]
        assert noted.startswith(str(folder / group / "Pendulum-v1_1" / place))


@pytest.mark.parametrize("sync", [(), ("--sync", "mean", "--sync-every", 10)])
def test_an_agent_that_does_not_fit_is_found_before_seeds_are_begun(pyrl, folder, sync):
    assert pyrl(*LINE, "--seed", 1).code == 0
    for name, more, problem in (
        ("nowhere", (), "--trained-agent: no model at nowhere"),
        ("sac", ("--set", "policy_kwargs.net_arch=[5]"), "size mismatch"),
        ("sac", ("--set", "normalize=true"), "has learned from observations as they are"),
    ):
        line = (*LINE, "--seeds", 2, "--trained-agent", name, "--save", "none", *more, *sync)
        outcome = pyrl(*line)
        assert outcome.code == 2
        assert problem in outcome.err
        assert len(outcome.err.splitlines()) == 1
        assert not (folder / "none").exists()
    other = pyrl("td3-train", *LINE[1:], "--seeds", 2, "--trained-agent", "sac", *sync)
    assert (other.code, list((folder).glob("td3"))) == (2, [])
    assert "is no TD3 model; try sac-train" in other.err


def test_runs_that_begin_with_an_agent_are_a_group_of_their_own(pyrl):
    for seed in (1, 2):
        assert pyrl(*LINE, "--seed", seed).code == 0
        more = ("--trained-agent", f"sac/Pendulum-v1_{2 * seed - 1}")
        assert pyrl(*LINE, "--seed", seed, *more).code == 0
    runs = [f"sac/Pendulum-v1_{number}" for number in (1, 2, 3, 4)]
    outcome = pyrl("report", *runs, "--label", "new", "--label", "tuned", "--json")
    assert outcome.code == 0, outcome.err
    three = pyrl("report", *runs, "--label", "a", "--label", "b", "--label", "c")
    assert three.err == "pyrl: --label: 3 for 2 groups: sac, sac (trained before)\n"


def test_it_is_the_same_one_when_a_run_goes_on(pyrl, folder):
    for number, seed in enumerate((1, 2, 3), 1):
        more = ("--trained-agent", "sac/Pendulum-v1_1") if number == 3 else ()
        assert pyrl(*LINE, "--seed", seed, "--save-freq", 10, *more).code == 0
    run = "sac/Pendulum-v1_3"
    going_on = ("sac-train", "--resume", run, "--timesteps", 30)
    other = pyrl(*going_on, "--trained-agent", "sac/Pendulum-v1_2")
    assert other.code == 2
    assert "--trained-agent" in other.err
    assert str(folder / "sac/Pendulum-v1_1/model.zip") in other.err
    # Said as at first, or in another way
    for same in ("sac/Pendulum-v1_1", "sac/Pendulum-v1_1/model", folder / "sac/Pendulum-v1_1"):
        assert pyrl(*going_on[:3], "--timesteps", 20, "--trained-agent", same).code == 0
    without = pyrl("sac-train", "--resume", "sac/Pendulum-v1_2", "--trained-agent", "sac")
    assert without.code == 2
    shutil.rmtree(folder / "sac/Pendulum-v1_1")
    assert pyrl(*going_on).code == 0

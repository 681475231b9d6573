"""`--trained-agent` on the command line: of several seeds, and repeated with --resume."""

import shutil

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
    missing = pyrl(*LINE, "--seeds", 2, "--trained-agent", "nowhere", "--save", "none")
    assert missing.code == 2
    assert "no model at" in missing.err
    assert not (folder / "none").exists()


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
    shutil.rmtree(folder / "sac/Pendulum-v1_1")
    assert pyrl(*going_on).code == 0

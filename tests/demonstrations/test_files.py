"""Files of demonstrations: what is read comes back, and what is wrong is named."""

import dataclasses
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest
from gymnasium import spaces

from pyrl_sb3.buffers import ReplayBuffer, demofiles
from pyrl_sb3.buffers.demofiles import load_demonstrations, save_demonstrations
from pyrl_sb3.buffers.demonstrations import DemonstrationError, Demonstrations


def baselines_file(path, demos, **changed):
    """As OpenAI baselines writes them: object arrays of dicts."""
    obs, acs, info = [], [], []
    for episode in demos.episodes:
        keys = episode.observations
        n = len(episode) + 1
        obs.append([{key: keys[key][t] for key in keys} for t in range(n)])
        acs.append([list(action) for action in episode.actions])
        info.append([{"is_success": 1.0} for _ in episode.actions])
    content = {"acs": acs, "obs": np.array(obs, dtype=object), "info": np.array(info, dtype=object)}
    np.savez_compressed(path, **{**content, **changed})
    return path


def same(a, b):
    assert len(a) == len(b)
    for one, other in zip(a.episodes, b.episodes, strict=True):
        assert one.actions == pytest.approx(other.actions)
        assert one.observations.keys() == other.observations.keys()
        for key in one.observations:
            assert one.observations[key] == pytest.approx(other.observations[key])


def test_our_own_files_come_back(tmp_path, line, demonstrations):
    for kind in ("goal", "box", "image"):
        demos = dataclasses.replace(demonstrations(kind), env_id="Line-v0")
        save_demonstrations(demos, tmp_path / "demos.npz")
        back = load_demonstrations(tmp_path / "demos.npz")
        same(demos, back)
        assert back.env_id == "Line-v0"
        for one, other in zip(demos.episodes, back.episodes, strict=True):
            assert np.array_equal(one.rewards, other.rewards)
            assert (one.terminated, one.success) == (other.terminated, other.success)
        back.check(line(kind).observation_space, line(kind).action_space, "Line-v3")
    assert not any(np.load(tmp_path / "demos.npz")[k].dtype.hasobject for k in ("actions",))


def test_files_of_baselines_are_read(tmp_path, line, demonstrations):
    demos = demonstrations("goal")
    back = load_demonstrations(baselines_file(tmp_path / "demo.npz", demos))
    same(demos, back)
    assert all(episode.success for episode in back.episodes)
    env = line()
    back.check(env.observation_space, env.action_space)
    rewarded = back.with_rewards(
        lambda achieved, desired, infos: env.compute_reward(achieved, desired, infos)
    )
    for one, other in zip(demos.episodes, rewarded.episodes, strict=True):
        assert np.array_equal(one.rewards, other.rewards)
    with pytest.raises(DemonstrationError, match=r"episode 0: rewards: missing, and .* no goal"):
        back.with_rewards(None)


def test_rewards_that_go_by_infos_say_that_there_are_none(demonstrations):
    demos = demonstrations("goal", 1, rewards=False)
    with pytest.raises(KeyError) as caught:
        demos.with_rewards(lambda achieved, desired, infos: np.array([i["cost"] for i in infos]))
    assert caught.value.args == ("'cost': these demonstrations have no infos, nor rewards",)
    infos = [{"cost": 3.0}] * 5
    demos.episodes[0] = dataclasses.replace(demos.episodes[0], infos=infos)
    rewarded = demos.with_rewards(lambda achieved, desired, infos: [i["cost"] for i in infos])
    assert rewarded.episodes[0].rewards == 5 * [3.0]


@pytest.mark.parametrize("last", [True, False])
def test_success_is_that_of_the_last_step(tmp_path, demonstrations, last):
    info = [{"is_success": not last}] * 4 + [{"is_success": last}]
    info = np.array([info] * 4, dtype=object)
    path = baselines_file(tmp_path / "demo.npz", demonstrations("goal"), info=info)
    assert {episode.success for episode in load_demonstrations(path).episodes} == {last}


class Canary:
    def __reduce__(self):
        return print, ("the canary sings",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, demonstrations, capsys):
    info = np.array([[Canary()] * 5] * 4, dtype=object)
    path = baselines_file(tmp_path / "demo.npz", demonstrations("goal"), info=info)
    with pytest.raises(DemonstrationError, match=r"asks for builtins\.print, refused"):
        load_demonstrations(path)
    assert not capsys.readouterr().out
    pickle.dumps(Canary())  # it could have been written otherwise


def with_minari(monkeypatch, load_dataset):
    minari = types.ModuleType("minari")
    minari.load_dataset = load_dataset
    minari.__spec__ = types.SimpleNamespace(name="minari")
    monkeypatch.setitem(sys.modules, "minari", minari)


def test_data_sets_of_minari(monkeypatch, line, demonstrations):
    demos = demonstrations("goal")
    with pytest.raises(
        DemonstrationError, match=r"minari is not installed: pip install 'minari\[hdf5\]'$"
    ):
        load_demonstrations("minari:line/walk-v0")

    def load_dataset(name):
        if name != "line/walk-v0":
            raise FileNotFoundError(name)
        episodes = [
            types.SimpleNamespace(
                observations=dict(each.observations),
                actions=each.actions,
                rewards=each.rewards,
                terminations=np.zeros(5, bool),
            )
            for each in demos.episodes
        ]
        spec = types.SimpleNamespace(env_spec=types.SimpleNamespace(id="Line-v0"))
        return types.SimpleNamespace(iterate_episodes=lambda: iter(episodes), spec=spec)

    with_minari(monkeypatch, load_dataset)
    back = load_demonstrations("minari:line/walk-v0")
    same(demos, back)
    assert back.env_id == "Line-v0"
    with pytest.raises(DemonstrationError, match="not on this machine: minari download none"):
        load_demonstrations("minari:none")


@pytest.mark.parametrize("when", ["at once", "at its episodes"])
def test_data_sets_of_minari_that_cannot_be_read(monkeypatch, when):
    def fail(*_):
        raise ImportError(
            "h5py is not installed. Please install it\nusing `pip install minari[hdf5]`"
        )

    late = types.SimpleNamespace(iterate_episodes=fail)
    with_minari(monkeypatch, fail if when == "at once" else lambda name: late)
    with pytest.raises(DemonstrationError) as refused:
        load_demonstrations("minari:line/walk-v0")
    said = "minari:line/walk-v0: cannot be read: h5py is not installed. Please install it using"
    assert str(refused.value).startswith(said)
    with_minari(monkeypatch, lambda name: types.SimpleNamespace(iterate_episodes=lost_file))
    with pytest.raises(DemonstrationError, match=r"cannot be read: main_data\.hdf5"):
        load_demonstrations("minari:line/walk-v0")


def lost_file():
    raise FileNotFoundError("main_data.hdf5")


def changed(demos, **fields):
    """The second episode is changed."""
    first, second, *rest = demos.episodes
    second = dataclasses.replace(second, **fields)
    return dataclasses.replace(demos, episodes=[first, second, *rest])


def nan_at(values, step):
    values = values.copy()
    values[step] = np.nan
    return values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: {"actions": e.actions[:0]}, "episode 1: actions: empty"),
        (
            lambda e: {"actions": np.vstack([e.actions, e.actions[:1]])},
            "episode 1: observations: 6 of 'achieved_goal' for 6 actions, there must be 7",
        ),
        (
            lambda e: {"actions": e.actions * 100},
            r"episode 1: actions: .* outside the bounds \[-2, 2",
        ),
        (lambda e: {"actions": nan_at(e.actions, 3)}, "episode 1: actions: not finite at step 3"),
        (lambda e: {"actions": np.zeros((5, 2))}, r"episode 1: actions: shape \(2,\), .* \(1,\)"),
        (lambda e: {"rewards": nan_at(e.rewards, 2)}, "episode 1: rewards: not finite at step 2"),
        (lambda e: {"rewards": e.rewards[1:]}, r"episode 1: rewards: shape \(4,\)"),
        (
            lambda e: {"actions": e.actions.tolist()},
            "1: actions: must be an array, not list",
        ),
        (lambda e: {"actions": None}, "episode 1: actions: must be an array, not NoneType"),
        (lambda e: {"actions": np.array(1.0)}, "1: actions: must be one for each step"),
        (
            lambda e: {"rewards": e.rewards.tolist()},
            "1: rewards: must be an array, not list",
        ),
        (
            lambda e: {"observations": {**e.observations, "observation": [[0.0]] * 6}},
            "episode 1: observations: 'observation' must be an array, not list",
        ),
        (
            lambda e: {"observations": {**e.observations, "observation": np.array(1.0)}},
            "episode 1: observations: 1 of 'observation' for 5 actions, there must be 6",
        ),
        (
            lambda e: {"observations": e.observations["observation"]},
            "episode 1: observations: must be arrays by key, not ndarray",
        ),
        (lambda e: {"infos": [{}]}, "episode 1: infos: 1 for 5 actions"),
        (
            lambda e: {
                "observations": {
                    **e.observations,
                    "desired_goal": nan_at(e.observations["desired_goal"], 5),
                }
            },
            "episode 1: observations: not finite of 'desired_goal' at step 5",
        ),
        (
            lambda e: {"observations": {"observation": e.observations["observation"]}},
            "episode 1: observations: key 'achieved_goal' is missing",
        ),
        (
            lambda e: {"observations": {**e.observations, "sound": np.zeros((6, 1))}},
            "episode 1: observations: key 'sound' is unknown to the environment; it has achieved_",
        ),
        (
            lambda e: {"observations": {**e.observations, "observation": np.zeros((6, 7))}},
            r"observations: shape \(7,\) of 'observation', the environment has \(1,\)",
        ),
    ],
)
def test_what_is_wrong_is_named(line, demonstrations, change, message):
    demos = demonstrations("goal")
    demos = changed(demos, **change(demos.episodes[1]))
    with pytest.raises(DemonstrationError, match=f"^test.npz: .*{message}"):
        demos.check(line().observation_space, line().action_space)


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        (lambda e: [vars(e)], "episode 0: episodes: must be an Episode, not dict"),
        (
            lambda e: [dataclasses.replace(e, infos=5)],
            "episode 0: infos: must be one for each step, not int",
        ),
    ],
)
def test_what_are_no_episodes_is_named(line, demonstrations, episodes, message):
    demos = demonstrations("goal")
    demos = dataclasses.replace(demos, episodes=episodes(demos.episodes[0]))
    with pytest.raises(DemonstrationError, match=f"^test.npz: {message}$"):
        demos.check(line().observation_space, line().action_space)


def test_other_environments_and_nothing_at_all(line, demonstrations):
    env, demos = line(), dataclasses.replace(demonstrations("goal"), env_id="FetchPush-v4")
    with pytest.raises(DemonstrationError, match="recorded in FetchPush-v4, not in FetchSlide-v4"):
        demos.check(env.observation_space, env.action_space, "FetchSlide-v4")
    demos.check(env.observation_space, env.action_space, "FetchPush-v5")
    with pytest.raises(DemonstrationError, match="holds no episode"):
        Demonstrations(episodes=[], source="x").check(env.observation_space, env.action_space)


def test_baselines_files_are_complained_about_in_their_words(tmp_path, line, demonstrations):
    demos = demonstrations("goal")
    demos = changed(demos, actions=demos.episodes[1].actions * 100)
    back = load_demonstrations(baselines_file(tmp_path / "demo.npz", demos))
    with pytest.raises(DemonstrationError, match=r"episode 1: acs: .* outside the bounds"):
        back.check(line().observation_space, line().action_space)
    ragged = np.empty(4, dtype=object)
    ragged[:] = [[{"observation": [0.0]}, {"observation": [0.0, 1.0]}]] * 4
    path = baselines_file(tmp_path / "demo.npz", demos, obs=ragged)
    with pytest.raises(DemonstrationError, match="episode 0: obs: "):
        load_demonstrations(path)
    path = baselines_file(tmp_path / "demo.npz", demos, obs=ragged[:3])
    with pytest.raises(DemonstrationError, match="3 obs for 4 acs"):
        load_demonstrations(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_whole_numbers_as_actions_are_scaled_as_they_are(demonstrations, dtype):
    demos = demonstrations("box", 1)
    actions = np.array([[0], [255], [51], [204], [102]], dtype)
    demos.episodes[0] = dataclasses.replace(demos.episodes[0], actions=actions)
    one, whole = spaces.Box(-9, 9, (1,), np.float32), spaces.Box(0, 255, (1,), dtype)
    demos.check(one, whole)
    buffer = ReplayBuffer(9, one, whole)
    demos.fill(buffer)
    assert np.allclose(buffer.actions[:5, 0, 0], [-1, 1, -0.6, 0.6, -0.2])


def test_files_that_would_fill_the_memory(tmp_path, demonstrations, monkeypatch):
    save_demonstrations(demonstrations("goal"), tmp_path / "demos.npz")
    monkeypatch.setattr(demofiles, "_MOST", 500)
    with pytest.raises(DemonstrationError, match="bytes unpacked, at most 500 are read"):
        load_demonstrations(tmp_path / "demos.npz")


def test_files_that_are_something_else(tmp_path, demonstrations):
    with pytest.raises(DemonstrationError, match="no such file"):
        load_demonstrations(tmp_path / "none.npz")
    with pytest.raises(DemonstrationError, match=f"^{tmp_path}: is a folder: name a file in it$"):
        load_demonstrations(tmp_path)
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(DemonstrationError, match=r"text\.npz: cannot be read: File is not a zip"):
        load_demonstrations(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(DemonstrationError, match="holds weights: no demonstrations of"):
        load_demonstrations(tmp_path / "other.npz")
    save_demonstrations(demonstrations("goal"), tmp_path / "demos.npz")
    content = (tmp_path / "demos.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DemonstrationError, match="cannot be read"):
        load_demonstrations(tmp_path / "half.npz")
    with (
        zipfile.ZipFile(tmp_path / "demos.npz") as old,
        zipfile.ZipFile(tmp_path / "less.npz", "w") as new,
    ):
        for name in old.namelist():
            if name != "rewards.npy":
                new.writestr(name, old.read(name))
    with pytest.raises(DemonstrationError, match="rewards is missing"):
        load_demonstrations(tmp_path / "less.npz")

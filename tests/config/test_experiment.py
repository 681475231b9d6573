"""Entries read into experiments: values, overrides, and every mistake reported at once."""

from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import yaml
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from torch import nn, optim

import pyrl_sb3
from pyrl_sb3.config import ConfigError, Experiment, checks, read_experiment, wrapping
from pyrl_sb3.config.documents import parse_yaml, read_document
from pyrl_sb3.config.expressions import NAMES, ExpressionError, read_expression
from pyrl_sb3.config.overrides import Override, apply, parse_override

PACKAGED = Path(pyrl_sb3.__file__).parent / "hyperparams"


def read(folder: Path, text: str, *overrides: str, algorithm: str = "sac") -> Experiment:
    path = folder / "my.yml"
    path.write_text(text)
    return read_experiment(path, algorithm, "Pendulum-v1", overrides=overrides)


def problems(folder: Path, text: str, *overrides: str, algorithm: str = "sac") -> list[str]:
    """What is wrong, without the folder."""
    with pytest.raises(ConfigError) as caught:
        read(folder, text, *overrides, algorithm=algorithm)
    return [line.replace(f"{folder}/", "") for line in caught.value.problems]


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    text = """\
default: &default
  gamma: high
  n_timesteps: 1e6
Pendulum-v1:
  <<: *default
  batch_sise: 256
  tau: 1.5
  buffer_size: 0.5
  seed: 3
  use_sde: "yes"
  train_freq: [1, episodes]
  noise_type: gaussian
  policy_kwargs: dict(net_arhc=[64], activation_fn=nn.Relu)
  monitor_kwargs: {info_keyword: [a]}
  env_wrapper: elsewhere.Wrapper
"""
    assert problems(tmp_path, text) == [
        "my.yml:2: Pendulum-v1.gamma: must be a number, not 'high'",
        "my.yml:6: Pendulum-v1.batch_sise: SAC has no such setting; did you mean batch_size?",
        "my.yml:7: Pendulum-v1.tau: must be from 0 to 1, not 1.5",
        "my.yml:8: Pendulum-v1.buffer_size: must be a whole number, not 0.5",
        "my.yml:9: Pendulum-v1.seed: is set by the command line, not by a config",
        "my.yml:10: Pendulum-v1.use_sde: must be true or false, not 'yes'",
        "my.yml:13: Pendulum-v1.policy_kwargs: 'nn.Relu' in 'dict(net_arhc=[64], "
        "activation_fn=nn.Relu)': not a name that configs may use; did you mean nn.ReLU?",
        "my.yml:15: Pendulum-v1.env_wrapper: env-wrapper 'elsewhere.Wrapper' would run code of "
        "'elsewhere'; pass --trust if you trust it, or install it as a plugin",
        "my.yml:14: Pendulum-v1.monitor_kwargs.info_keyword: Monitor has no such argument; "
        "did you mean info_keywords?",
        "my.yml:12: Pendulum-v1.noise_type: no noise 'gaussian': normal or ornstein-uhlenbeck; "
        "`noise` takes the noise of a plugin",
        "my.yml:12: Pendulum-v1.noise_type: needs noise_std, its standard deviation",
        "my.yml:11: Pendulum-v1.train_freq: counts in step or episode, not 'episodes'; "
        "did you mean episode?",
    ]


@pytest.mark.parametrize(
    ("algorithm", "text", "expected"),
    [
        ("dqn", "{noise_type: normal, noise_std: 0.1}", "explores without action noise"),
        ("sac", "{noise_std: 0.1}", "noise_std: needs noise_type"),
        ("sac", "{noise: ou_0.2, noise_type: normal, noise_std: 0.1}", "leave one of them out"),
        ("sac", "{noise: norml_0.2}", "did you mean normal?"),
        ("sac", "{noise: 3}", "must be text such as ou_0.2"),
        ("sac", "{noise: {name: ou, params: {sgima: 1}}}", "did you mean sigma?"),
        ("sac", "{n_envs: 2, train_freq: [1, episode]}", "counting in episodes needs n_envs: 1"),
        ("sac", "{train_freq: 0}", "train_freq: must be at least 1, not 0"),
        ("sac", "{train_freq: [1]}", "train_freq: must be a list of 2 or a whole number, not [1]"),
        ("sac", "{learning_rate: lim_1e-3}", "no schedule 'lim'; did you mean lin?"),
        ("sac", "{learning_rate: -0.1}", "must be a number such as 0.001, or lin_0.001, not -0.1"),
        ("sac", "{learning_rate: true}", "not True"),
        (
            "sac",
            "{policy: MlpPolcy}",
            "SAC has MlpPolicy, CnnPolicy, MultiInputPolicy; did you mean MlpPolicy?",
        ),
        ("sac", "{policy: td3}", "policy: 'pyrl/td3' is for ddpg or td3, not sac"),
        ("her-sac", "{policy: pyrl/tqc}", "policy: 'pyrl/tqc' is for tqc, not her-sac"),
        ("sac", "{policy: 3}", "policy: must be the name of a class, not 3"),
        ("sac", "{policy: [a]}", "policy: must be the name of a class, not ['a']"),
        ("her-sac", "{policy: MlpPolicy}", "HerReplayBuffer needs MultiInputPolicy"),
        ("her-sac", "{frame_stack: 4}", "goals that are not stacked"),
        ("her-sac", "{replay_buffer_kwargs: {n_sampled_gaol: 4}}", "did you mean n_sampled_goal?"),
        ("sac", "{replay_buffer_kwargs: {n_sampled_goal: 4}}", "needs replay_buffer_class"),
        (
            "sac",
            "{replay_buffer_kwargs: {bla: 1}}",
            "kwargs.bla: ReplayBuffer has no such argument",
        ),
        (
            "sac",
            "{replay_buffer_kwargs: {handle_timeout_termination: foo}}",
            "replay_buffer_kwargs.handle_timeout_termination: must be true or false, not 'foo'",
        ),
        ("sac", "{replay_buffer_class: HerReplayBufer}", "HerReplayBufer"),
        ("sac", "{replay_buffer_class: 3}", "must be the name of a class, not 3"),
        ("sac", "{optimize_memory_usage: true}", "handle_timeout_termination=False"),
        ("sac", "{normalize: 3}", "normalize: must be a mapping of names"),
        ("sac", "{normalize: {clip_osb: 3}}", "normalize.clip_osb: VecNormalize has no such argum"),
        ("sac", "{policy_kwargs: {net_arch: [64], activation_fn: nn.Rleu}}", "mean nn.ReLU?"),
        ("sac", "{policy_kwargs: {optimizer_class: nn.ReLU}}", "must be a subclass of Optimizer"),
        ("sac", "{policy_kwargs: {optimizer_class: Adma}}", "no optimizer 'Adma'"),
        ("sac", "{policy_kwargs: {activation_fn: RELU}}", "no activation 'RELU'"),
        ("sac", "{env_kwargs: [1]}", "env_kwargs: must be a mapping"),
        ("sac", "{monitor_kwargs: {filename: a.csv}}", "filename: what is monitored is written to"),
        ("sac", "{monitor_kwargs: {info_keywords: a}}", "info_keywords must be a list of names"),
        ("sac", "{monitor_kwargs: {info_keywords: [1]}}", "must be a list of names, not [1]"),
        ("sac", "{monitor_kwargs: {info_keywords: 1, reset_keywords: 2}}", "info_keywords must be"),
        ("sac", "{monitor_kwargs: {reset_keywords: 2, info_keywords: 1}}", "reset_keywords must"),
        ("sac", "{callback: [{a.B: 3}]}", "the arguments of 'a.B' must be a mapping, not 3"),
        ("sac", "{env: 3}", "is set by the command line"),
        ("sac", "{_init_setup_model: false}", "has no such setting"),
        ("sac", "{action_noise: 3}", "must be a ActionNoise, not 3"),
        ("td3", "{use_sde: true}", "TD3 has no such setting"),
        ("crossq", "{policy: MultiPolicy}", "CrossQ has MlpPolicy, CnnPolicy, MultiInputPolicy"),
        ("sac", "{normalize: {clip_obs: a}}", "normalize.clip_obs: must be a number, not 'a'"),
        ("sac", "{normalize: {epsilon: -1}}", "epsilon: must be at least 0, not -1"),
        ("sac", "{normalize: {gamma: 2}}", "normalize.gamma: must be from 0 to 1, not 2"),
        ("td3", "{normalize: {clip_reward: null}}", "clip_reward: must be a number, not None"),
        ("her-sac", "{replay_buffer_kwargs: {n_sampled_goal: a}}", "goal: must be a whole number"),
        ("sac", "{policy_kwargs: {n_critics: 0}}", "n_critics: must be at least 1, not 0"),
        ("sac", "{policy_kwargs: {net_arch: [4, -3]}}", "net_arch: layers have a whole number of"),
        ("sac", "{policy_kwargs: {net_arch: {pi: [4], qf: [1.5]}}}", "from 1 on, not 1.5"),
        ("sac", "{policy_kwargs: {net_arch: [4, wide]}}", "from 1 on, not wide"),
        (
            "sac",
            "{policy_kwargs: {layer_norm: acotr}}",
            "critic or true or false, not 'acotr'; did",
        ),
        ("sac", "{policy_kwargs: {normalize_images: 2}}", "must be true or false, not 2"),
        ("sac", "{policy_kwargs: {use_sde: true}}", "must be False, as use_sde of SAC is, or left"),
        ("sac", "{use_sde: true, policy_kwargs: {use_sde: false}}", "use_sde: must be True, as"),
        ("sac", "{use_sde: 3, policy_kwargs: {use_sde: false}}", "default.use_sde: must be true"),
        ("td3", "{policy_kwargs: {use_sde: false}}", "use_sde: TD3Policy has no such argument"),
        ("sac", "{policy_kwargs: {net_arch: 3}}", "net_arch: must be a list or a mapping, not 3"),
        ("sac", "{policy_kwargs: {optimizer_kwargs: eps=1}}", "optimizer_kwargs: 'eps=1': invalid"),
        ("sac", "{monitor_kwargs: {reset_keywords: [a]}}", "reset_keywords: environments are"),
        ("sac", "{noise: {name: 3}}", "must be text such as ou_0.2"),
        ("sac", "{ent_coef: auot}", "number, or auto or auto_0.1, not 'auot'; did you mean auto?"),
        ("sac", "{ent_coef: auto_-1}", "must be a number, or auto or auto_0.1, not 'auto_-1'"),
        ("sac", "{ent_coef: -1}", "ent_coef: must be at least 0, not -1"),
        ("crossq", "{target_entropy: auto_1}", "target_entropy: must be a number, or auto, not"),
        ("dqn", "{max_grad_norm: -1}", "max_grad_norm: must be at least 0, not -1"),
        ("dqn", "{demonstrations: a.npz}", "demonstrations: DQN learns from no demonstrations"),
        # What another mistake has left out is not said to be missing.
        ("td3", "{noise_type: normal, noise_std: -0.1}", "noise_std: must be at least 0"),
        ("td3", "{noise_type: 3, noise_std: 0.1}", "noise_type: must be text, not 3"),
        (
            "sac",
            "{replay_buffer_class: Foo, replay_buffer_kwargs: {n_sampled_goal: 4}}",
            "replay_buffer_class: unknown replay-buffer 'Foo'",
        ),
        (
            "her-sac",
            "{replay_buffer_class: Foo, replay_buffer_kwargs: {alpha: 4}}",
            "replay_buffer_class: unknown replay-buffer 'Foo'",
        ),
        ("sac", "{policy: MlpPolcy, policy_kwargs: {net_arhc: [1]}}", "MlpPolicy?"),
    ],
)
def test_a_mistake_names_the_key_and_the_remedy(
    algorithm: str, text: str, expected: str, tmp_path: Path
) -> None:
    (line,) = problems(tmp_path, f"default: {text}", algorithm=algorithm)
    assert line.startswith("my.yml:1: default.")
    assert expected in line


def test_files_and_entries_that_are_not_there(tmp_path: Path) -> None:
    read(tmp_path, "default: {}")
    with pytest.raises(ConfigError, match=r"mx\.yml: No such file or directory; did you mean my"):
        read_experiment(tmp_path / "mx.yml", "sac", "Pendulum-v1")
    with pytest.raises(ConfigError, match=r"x\.yml: Not a directory"):
        read_experiment(tmp_path / "my.yml" / "x.yml", "sac", "Pendulum-v1")
    with pytest.raises(ConfigError, match=r"x\.yml: File name too long"):
        read_experiment(tmp_path / f"{300 * 'x'}.yml", "sac", "Pendulum-v1")
    with pytest.raises(ConfigError, match=r"did you mean sac\?"):
        read_experiment(tmp_path / "my.yml", "saac", "Pendulum-v1")
    lines = problems(tmp_path, "Pendulum-v0: {}")
    assert lines == ["my.yml: no entry 'Pendulum-v1' and no `default`; did you mean Pendulum-v0?"]


def test_a_python_file_must_define_its_hyperparameters(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("hyperparam = {}")
    with pytest.raises(ConfigError, match=r"defines no `hyperparams`; did you mean hyperparam\?"):
        read_document(tmp_path / "my.py", trust=True)


FAILING = {
    "an import": (
        "\nimport nothing_here",
        ":2: ModuleNotFoundError: No module named 'nothing_here'",
    ),
    "a value": ("def f():\n    1 / 0\n\n\nf()", ":2: ZeroDivisionError: division by zero"),
    "elsewhere": ("import json\n\njson.loads('')", ":3: JSONDecodeError: Expecting value: line 1"),
    "syntax": ("a = 1\nb = )", ":2: SyntaxError: unmatched ')'"),
    "syntax elsewhere": (
        "\ncompile('x x', 'y.py', 'exec')",
        ":2: SyntaxError: invalid syntax (y.py,",
    ),
    "several lines": ("raise ValueError('a\\n  b')", ":1: ValueError: a b"),
    "its end": ("import sys\nsys.exit(3)", ":2: SystemExit: 3"),
    "no text": (b"a = '\xff'", ":1: SyntaxError: (unicode error) "),
}


@pytest.mark.parametrize(("text", "said"), FAILING.values(), ids=FAILING)
def test_a_python_file_that_fails_is_a_mistake_in_one_line(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    path = tmp_path / "my.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        read_document(path, trust=True)
    (line,) = caught.value.problems
    assert line.startswith(f"{path}{said}")
    assert line.endswith("; --verbose shows the traceback")
    assert line.count("my.py") == 1
    assert "\n" not in line
    assert type(caught.value.__cause__).__name__ in said


def test_ctrl_c_while_a_python_file_runs_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        read_document(tmp_path / "my.py", trust=True)


def test_anchors_stand_for_what_is_read_there() -> None:
    text = "a: &a !!python/name:torch.nn.ReLU ''\nb: *a\n"
    text += "c: &c !!python/object/apply:collections.OrderedDict [[[x, 1], [y, 2]]]\nd: *c\n"
    found = parse_yaml(text, "my.yml").data
    assert found["a"] == found["b"] == "torch.nn.ReLU"
    assert found["c"] == found["d"] == {"x": 1, "y": 2}


def test_demonstrations_have_an_entry_of_their_own(tmp_path: Path) -> None:
    two = "Pendulum-v1: {gamma: 0.9}\nPendulum-v1 with demonstrations: {gamma: 0.8}"
    assert read(tmp_path, two).arguments["gamma"] == 0.9
    experiment = read(tmp_path, two, "demonstrations=demos.npz")
    assert experiment.arguments["gamma"] == 0.8
    assert experiment.source.endswith("my.yml: Pendulum-v1 with demonstrations")
    one = "Pendulum-v1: {gamma: 0.9}"
    assert read(tmp_path, one, "demonstrations=demos.npz").arguments["gamma"] == 0.9
    wrong = two.replace("0.8", "8")
    place = "my.yml:2: Pendulum-v1 with demonstrations.gamma"
    assert problems(tmp_path, wrong, "demonstrations=demos.npz")[0].startswith(place)


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        (["bit-flipping"], "bit-flipping"),
        (["pyrl/bit-flipping"], "pyrl/bit-flipping"),
        (["BitFlipping"], "BitFlipping"),
        (["bit-flipping-v0"], "bit-flipping-v0"),
        (["bit-flipping", "BitFlipping-v0"], "BitFlipping-v0"),
        (["bit-flipping", "bit-flipping with demonstrations"], "bit-flipping"),
        (["acme/bit-flipping", "GridMaze-v0", "pyrl_sb3.envs:BitFlipping"], "default"),
    ],
)
def test_an_entry_may_have_any_name_of_its_environment(
    keys: list[str], chosen: str, tmp_path: Path
) -> None:
    path = tmp_path / "my.yml"
    path.write_text(yaml.safe_dump({key: {} for key in ["default", *keys]}, sort_keys=False))
    assert read_experiment(path, "sac", "BitFlipping-v0").source == f"{path}: {chosen}"
    demonstrated = [key for key in keys if key.endswith(" with demonstrations")] or [chosen]
    experiment = read_experiment(path, "sac", "BitFlipping-v0", overrides=["demonstrations=a.npz"])
    assert experiment.source == f"{path}: {demonstrated[0]}"


def test_values_take_the_type_that_is_declared(tmp_path: Path) -> None:
    text = "default: {gamma: 1e-1, buffer_size: !!float 1e3, learning_rate: 3e-4, ent_coef: auto}"
    arguments = read(tmp_path, text).arguments
    assert arguments == {
        "gamma": 0.1,
        "buffer_size": 1000,
        "learning_rate": 3e-4,
        "ent_coef": "auto",
    }
    assert type(arguments["buffer_size"]) is int
    assert read(tmp_path, "default: {ent_coef: 1e-2}").arguments == {"ent_coef": 0.01}


@pytest.mark.parametrize(
    "text", ["{info_keywords: [height]}", "\"dict(info_keywords=('height',))\"", "dict()", "null"]
)
def test_the_monitor_takes_its_arguments(text: str, tmp_path: Path) -> None:
    keywords = read(tmp_path, f"default: {{monitor_kwargs: {text}}}").monitor_kwargs
    monitor = Monitor(gymnasium.make("Pendulum-v1"), str(tmp_path / "0"), **keywords)
    monitor.close()
    header = (tmp_path / "0.monitor.csv").read_text().splitlines()[1]
    assert header == ("r,l,t,height" if "height" in text else "r,l,t")


def test_one_override_by_itself(tmp_path: Path) -> None:
    text = "default: {policy: MlpPolicy, gamma: 0.9}"
    (tmp_path / "my.yml").write_text(text)
    found = read_experiment(tmp_path / "my.yml", "sac", "Pendulum-v1", overrides="gamma=0.5")
    assert found.arguments["gamma"] == 0.5


def test_overrides(tmp_path: Path) -> None:
    text = (
        "default: {gamma: 0.9, normalize: true, policy_kwargs: 'dict(net_arch=[8], n_critics=1)'}"
    )
    experiment = read(
        tmp_path,
        text,
        "gamma=0.5",
        "policy_kwargs.net_arch=[256,256]",
        "policy_kwargs.activation_fn=nn.ELU",
        "normalize.clip_obs=5",
        "env_kwargs.name=foo:bar",
        "learning_rate=lin_1e-3",
        "gamma=0.6",
    )
    assert experiment.arguments["policy_kwargs"] == {
        "net_arch": [256, 256],
        "n_critics": 1,
        "activation_fn": nn.ELU,
    }
    assert experiment.normalize == {"clip_obs": 5, "gamma": 0.6}
    assert experiment.env_kwargs == {"name": "foo:bar"}
    assert experiment.arguments["learning_rate"](0.5) == 5e-4
    assert yaml.safe_load(yaml.safe_dump(dict(experiment.given))) == {
        "gamma": 0.6,
        "normalize": {"clip_obs": 5},
        "policy_kwargs": {"net_arch": [256, 256], "n_critics": 1, "activation_fn": "nn.ELU"},
        "env_kwargs": {"name": "foo:bar"},
        "learning_rate": "lin_1e-3",
    }


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("gamma", "--set 'gamma': must read key=value, such as gamma=0.98"),
        (".a=1", "--set '.a=1': must read key=value, such as gamma=0.98"),
        (" =3", "--set ' =3': must read key=value, such as gamma=0.98"),
        ("a..b=3", "--set 'a..b=3': must read key=value, such as gamma=0.98"),
        ("a.=3", "--set 'a.=3': must read key=value, such as gamma=0.98"),
        ("noise=ou_x", "--set noise: noise 'ou_x': 'x' is no number"),
        ("gama=0.9", "--set gama: SAC has no such setting; did you mean gamma?"),
        ("gamma=x", "--set gamma: must be a number, not 'x'"),
        ("gamma.x=1", "--set gamma.x: gamma is 0.9, no mapping"),
        ("policy_kwargs.net_arhc=[1]", "--set policy_kwargs.net_arhc: SACPolicy has no such"),
        ("policy_kwargs={net_arhc: [1]}", "--set policy_kwargs.net_arhc: SACPolicy has no such"),
        ("normalize={norm_ob: true}", "--set normalize.norm_ob: VecNormalize has no such argument"),
        ("policy_kwargs.a=[", "--set policy_kwargs.a:1: "),
        ("policy_kwargs=open('x')", "--set policy_kwargs: \"open('x')\": only dict(...)"),
        ("ent_coef=!!python/name:os.system", "--set ent_coef:1: the tag '!!python/name:os.system'"),
    ],
)
def test_wrong_overrides(override: str, expected: str, tmp_path: Path) -> None:
    (line,) = problems(tmp_path, "default: {gamma: 0.9}", override)
    assert line.startswith(expected)


@pytest.mark.parametrize(
    ("override", "content", "expected"),
    [
        ("sync.every=3", {"sync": "mean"}, {"sync": {"name": "mean", "every": 3}}),
        ("sync.params.a=1", {"sync": {"name": "x"}}, {"sync": {"name": "x", "params": {"a": 1}}}),
        (
            "noise.params.theta=0.5",
            {"noise": "ou_0.2", "noise_type": "normal", "noise_std": 0.1},
            {"noise": {"name": "ou", "params": {"sigma": 0.2, "theta": 0.5}}},
        ),
        ("noise.name=ou", {"noise_type": "normal", "noise_std": 1}, {"noise": {"name": "ou"}}),
        (
            "policy_kwargs.net_arch.pi=[8]",
            {"policy_kwargs": "dict(net_arch=dict(pi=[4], qf=[4]))"},
            {"policy_kwargs": {"net_arch": {"pi": [8], "qf": [4]}}},
        ),
        ("env_kwargs.a=1", {"env_kwargs": None}, {"env_kwargs": {"a": 1}}),
    ],
)
def test_overrides_lead_into_what_is_written_in_short(
    override: str, content: dict[str, Any], expected: dict[str, Any]
) -> None:
    before = repr(content)
    assert apply(content, [parse_override(override)]) == expected
    assert repr(content) == before


@pytest.mark.parametrize(
    ("override", "content", "expected"),
    [
        ("noise.params=1", {"noise": "ou_x"}, "--set noise.params: noise 'ou_x': 'x' is no"),
        ("policy_kwargs.a=1", {"policy_kwargs": "dict("}, "--set policy_kwargs.a: 'dict('"),
        (
            "policy_kwargs.sync.a=1",
            {"policy_kwargs": {"sync": "mean"}},
            "--set policy_kwargs.sync.a: policy_kwargs.sync is 'mean', no mapping",
        ),
    ],
)
def test_overrides_that_lead_nowhere_are_named(
    override: str, content: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        apply(content, [parse_override(override)])
    assert str(caught.value).startswith(expected)


def test_an_override_ends_its_key_at_the_first_sign_and_has_no_spaces_there() -> None:
    assert parse_override(" a . b = 1e-3").path == ("a", "b")
    assert parse_override("a.b=1e-3=") == Override(("a", "b"), "1e-3=")


def test_demonstrations_are_called_as_their_option(tmp_path: Path) -> None:
    lines = problems(tmp_path, "default: {}", "demonstrations=a.npz", algorithm="dqn")
    assert lines == ["--demos: DQN learns from no demonstrations"]


def test_arguments_take_the_type_that_is_declared(tmp_path: Path) -> None:
    text = """\
default:
  normalize: {clip_obs: .inf, norm_obs_keys: null, norm_reward: 0}
  max_grad_norm: .inf
  replay_buffer_kwargs: {n_sampled_goal: 4.0, frame_stack: 1}
  policy_kwargs: {net_arch: [4], features_extractor_kwargs: null}
"""
    given = ["policy_kwargs.optimizer_kwargs=dict(eps=1e-5)", "monitor_kwargs=dict()"]
    experiment = read(tmp_path, text, *given, algorithm="her-dqn")
    assert experiment.normalize is not None
    assert experiment.normalize["norm_reward"] is False
    arguments = experiment.arguments
    assert type(arguments["replay_buffer_kwargs"]["n_sampled_goal"]) is int
    assert arguments["policy_kwargs"]["optimizer_kwargs"] == {"eps": 1e-5}
    widths = "net_arch: {pi: [!!float 64, '64'], qf: [1e2]}"
    arguments = read(tmp_path, f"default: {{policy_kwargs: {{{widths}}}}}").arguments
    assert repr(arguments["policy_kwargs"]["net_arch"]) == "{'pi': [64, 64], 'qf': [100]}"
    arguments = read(tmp_path, "default: {policy_kwargs: 'dict(net_arch=(4, 2))'}").arguments
    assert arguments["policy_kwargs"] == {"net_arch": [4, 2]}


@pytest.mark.parametrize(
    ("keys", "low", "high"),
    [
        ("exploration_final_eps exploration_fraction exploration_initial_eps gamma tau", 0, 1),
        ("batch_size buffer_size frame_stack n_critics n_envs n_steps n_timesteps", 1, None),
        ("policy_delay target_update_interval", 1, None),
        ("learning_starts max_grad_norm noise_std target_noise_clip", 0, None),
        ("target_policy_noise top_quantiles_to_drop_per_net", 0, None),
        ("gradient_steps sde_sample_freq", -1, None),
    ],
)
def test_numbers_may_be_their_bounds_and_no_more(keys: str, low: int, high: int | None) -> None:
    for key in keys.split():
        for good in (low, 10**9 if high is None else high):
            assert checks.problem(key, good, float | int) is None
        for bad in (low - 0.001, *([] if high is None else [high + 0.001])):
            assert "must be" in (checks.problem(key, bad, float | int) or "")


@pytest.mark.parametrize("algorithm", ["tqc", "her-tqc", "sac", "td3"])
def test_policy_kwargs_are_those_of_the_policy_that_is_trained(
    algorithm: str, tmp_path: Path
) -> None:
    path = tmp_path / "my.yml"
    path.write_text("default: {}")
    given = ["policy_kwargs.layer_norm=true"]
    experiment = read_experiment(path, algorithm, "Pendulum-v1", overrides=given)
    assert experiment.arguments["policy_kwargs"] == {"layer_norm": True}
    theirs = [*given, "policy=sb3_contrib.tqc.policies.TQCPolicy"]
    with pytest.raises(ConfigError, match="TQCPolicy has no such argument"):
        read_experiment(path, algorithm, "Pendulum-v1", overrides=theirs)


def test_names_of_the_registry(tmp_path: Path) -> None:
    text = "default: {noise: ou_0.3, replay_buffer_class: her, callback: [stop-at-episodes: "
    experiment = read(tmp_path, text + "{max_episodes: 2}]}")
    assert experiment.noise is not None
    assert (experiment.noise.name, experiment.noise.params) == ("ou", {"sigma": 0.3})
    assert experiment.arguments["replay_buffer_class"] is pyrl_sb3.HerReplayBuffer
    assert experiment.policy == "MultiInputPolicy"
    (callback,) = experiment.callback
    assert callback.load()(**callback.params).max_episodes == 2
    experiment = read(tmp_path, "default: {noise: {name: ou, params: {theta: 1}}}")
    assert experiment.noise is not None
    assert experiment.noise.params == {"theta": 1}
    assert read(tmp_path, "default: {noise: none}").noise is None
    for algorithm in ("sac", "her-sac"):
        policy = read(tmp_path, "default: {policy: sac}", algorithm=algorithm).policy
        assert policy is pyrl_sb3.SACPolicy
    # Of one structure; the other way round as well.
    assert read(tmp_path, "default: {policy: td3}", algorithm="ddpg").policy is pyrl_sb3.TD3Policy
    assert read(tmp_path, "default: {policy: ddpg}", algorithm="td3").policy is pyrl_sb3.DDPGPolicy


@pytest.mark.parametrize("algorithm", ["her-sac", "sac"])
def test_a_buffer_is_told_the_steps_that_sb3_ignores(algorithm: str, tmp_path: Path) -> None:
    text = "default: {n_steps: 3, gamma: 0.95, replay_buffer_class: her}"
    arguments = read(tmp_path, text, algorithm=algorithm).arguments
    assert arguments["replay_buffer_kwargs"] == {"n_steps": 3, "gamma": 0.95}
    assert "n_steps" not in arguments
    text = "default: {n_steps: 3}"
    assert read(tmp_path, text, algorithm="sac").arguments["n_steps"] == 3
    for text in ("{n_steps: 3, replay_buffer_kwargs: {n_steps: 3}}", "{n_steps: 3}"):
        arguments = read(tmp_path, f"default: {text}", algorithm="her-sac").arguments
        assert arguments["replay_buffer_kwargs"] == {"n_steps": 3, "gamma": 0.99}
    # SB3's default is 0.99, that of buffers too
    text = "default: {gamma: 0.9, replay_buffer_kwargs: {n_steps: 3}}"
    arguments = read(tmp_path, text, algorithm="her-sac").arguments
    assert arguments["replay_buffer_kwargs"] == {"n_steps": 3, "gamma": 0.9}


def test_steps_that_no_buffer_sums(tmp_path: Path) -> None:
    text = "default: {n_steps: 3, replay_buffer_class: sb3.HerReplayBuffer}"
    assert problems(tmp_path, text, algorithm="her-sac") == [
        "my.yml:1: default.n_steps: HerReplayBuffer has no argument n_steps"
    ]
    text = "default: {n_steps: 3, replay_buffer_kwargs: {n_steps: 2}}"
    (line,) = problems(tmp_path, text, algorithm="her-sac")
    assert line.endswith("n_steps: replay_buffer_kwargs has n_steps: 2")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{env_wrapper: [bounded-rewards: {scale: null}]}", "scale: must be a number, not None"),
        ("{env_wrapper: [relay-goals: {near: a}]}", "'relay-goals': near: must be a number, not"),
        ("{callback: [stop-at-episodes: {max_episodes: a}]}", "max_episodes: must be a whole"),
    ],
)
def test_arguments_of_components_are_of_the_declared_type(
    text: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=expected):
        read(tmp_path, f"default: {text}").check_components()


@pytest.mark.parametrize(
    ("hint", "given", "taken"),
    [
        (tuple[str], ["x", "y"], ("x", "y")),  # as many write it for some strings
        (tuple[int, int], [8, 8], (8, 8)),
        ("int | None", "1e2", 100),
        ("Optional[bool]", 1, True),
        ("int | np.ndarray", "a", "a"),
        ("1 +", "a", "a"),
    ],
)
def test_declarations_are_taken_as_they_are_meant(hint: Any, given: Any, taken: Any) -> None:
    parameter = Parameter("name", Parameter.KEYWORD_ONLY, annotation=hint)
    argument = checks.argument(given, parameter)
    assert (argument, type(argument)) == (taken, type(taken))


def test_a_list_of_another_length_is_named() -> None:
    parameter = Parameter("name", Parameter.KEYWORD_ONLY, annotation=tuple[int, int])
    with pytest.raises(ValueError, match=r"must be a list of 2, not \[84\]"):
        checks.argument([84], parameter)


def test_declarations_that_are_narrower_than_what_works(tmp_path: Path) -> None:
    rescale = "gymnasium.wrappers.RescaleAction: {min_action: -0.5, max_action: 0.5}"
    limit = "gymnasium.wrappers.TimeLimit: {max_episode_steps: 1e2}"
    feature = "sb3_contrib.common.wrappers.TimeFeatureWrapper: {max_steps: 100}"
    stacked = "gymnasium.wrappers.ResizeObservation: {shape: [4, 4]}"
    text = f"default: {{env_wrapper: [{rescale}, {limit}, {feature}, {stacked}]}}"
    read(tmp_path, text).check_components()


@pytest.mark.skipif(
    "repeat_action_duration" not in signature(gymnasium.wrappers.StickyAction).parameters,
    reason="gymnasium 1.0 has no durations",
)
def test_components_get_their_arguments_in_the_declared_types(tmp_path: Path) -> None:
    sticky = "gymnasium.wrappers.StickyAction: {repeat_action_probability: 1e-1"
    wrappers = [
        "gymnasium.wrappers.TimeLimit: {max_episode_steps: !!float 1e3}",
        sticky + ", repeat_action_duration: [1, 3]}",
        "gymnasium.wrappers.ReshapeObservation: {shape: [3, 1]}",
    ]
    stop = "stable_baselines3.common.callbacks.StopTrainingOnMaxEpisodes: {max_episodes: '1e1'}"
    text = f"default: {{callback: [{stop}], env_wrapper: [{', '.join(wrappers)}]}}"
    experiment = read(tmp_path, text)
    wrapped = wrapping(experiment.env_wrapper)
    assert wrapped is not None
    env = wrapped(gymnasium.make("Pendulum-v1"))
    assert env.observation_space.shape == (3, 1)
    assert env.env.repeat_action_duration_range == (1, 3)
    assert type(env.env.env._max_episode_steps) is int
    callback, arguments = experiment.callback[0].resolved()
    assert callback(**arguments).max_episodes == 10


def test_classes_with_arguments_of_trusted_python_files_are_written(tmp_path: Path) -> None:
    path = tmp_path / "my.py"
    path.write_text(
        "from gymnasium.wrappers import TimeLimit\n"
        "hyperparams = {'default': {'env_wrapper': [{TimeLimit: {'max_episode_steps': 9}}]}}"
    )
    experiment = read_experiment(path, "sac", "Pendulum-v1", trust=True)
    assert experiment.unwritable() == {}
    (again,) = read(tmp_path, experiment.as_yaml()).env_wrapper
    assert again.params == {"max_episode_steps": 9}
    assert again.load() is gymnasium.wrappers.TimeLimit


def test_what_a_config_cannot_hold_is_known(tmp_path: Path) -> None:
    path = tmp_path / "my.py"
    path.write_text(
        "from stable_baselines3.common.callbacks import StopTrainingOnMaxEpisodes as Stop\n"
        "class Own(Stop): pass\n"
        "hyperparams = {'default': {'gamma': 0.9, 'policy_kwargs': {'net_arch': (8, 8)},"
        " 'callback': [Stop(5), {Own: {'max_episodes': 3}}]}}"
    )
    experiment = read_experiment(path, "sac", "Pendulum-v1", trust=True)
    ((key, (ready, own)),) = experiment.unwritable().items()
    assert (type(ready).__name__, own.__name__) == ("StopTrainingOnMaxEpisodes", "Own")
    assert key == "callback"


def test_numbers_of_numpy_are_pythons_in_training_and_in_the_config_that_is_kept(
    tmp_path: Path,
) -> None:
    path = tmp_path / "my.py"
    path.write_text(
        "import numpy as np\n"
        "kwargs = {'is_slippery': np.bool_(False), np.str_('map_name'): np.str_('4x4')}\n"
        "hyperparams = {'default': {'gamma': np.float64(0.9), 'tau': np.float32(0.5),"
        " 'buffer_size': np.int64(9), 'env_kwargs': kwargs,"
        " 'policy_kwargs': {'net_arch': [*np.array([8, 4])]}, 'train_freq': (np.int8(2), 'step')}}"
    )
    experiment = read_experiment(path, "sac", "Pendulum-v1", trust=True)
    plain = (
        "{'gamma': 0.9, 'tau': 0.5, 'buffer_size': 9, 'env_kwargs': {'is_slippery': False,"
        " 'map_name': '4x4'}, 'policy_kwargs': {'net_arch': [8, 4]}, 'train_freq': (2, 'step')}"
    )
    assert repr(experiment.given) == plain  # no NumPy among them, whose repr is another
    assert experiment.unwritable() == {}
    again = read(tmp_path, experiment.as_yaml())
    assert (again.env_kwargs, again.arguments) == (experiment.env_kwargs, experiment.arguments)


def test_an_enum_that_is_a_number_is_known_as_what_a_config_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "my.py"
    path.write_text(
        "from enum import IntEnum\n"
        "hyperparams = {'default': {'env_kwargs': {'side': IntEnum('Side', 'LEFT').LEFT}}}"
    )
    experiment = read_experiment(path, "sac", "Pendulum-v1", trust=True)
    ((key, (side,)),) = experiment.unwritable().items()
    assert (key, side.name) == ("env_kwargs", "LEFT")
    assert read(tmp_path, experiment.as_yaml()).env_kwargs == {"side": repr(side)}


def test_components_that_cannot_be_had_are_named_together(tmp_path: Path) -> None:
    text = """\
default:
  env_wrapper:
    - gymnasium.wrappers.ClipActoin
    - gymnasium.nowhere.Wrapper
  vec_env_wrapper: stable_baselines3.common.vec_env.VecFrameStack
  callback: [evla, stable_baselines3.common.callbacks.CheckpointCallback: {save_frq: 1}]
"""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text).check_components()
    clip, nowhere, typo, argument = caught.value.problems
    assert "gymnasium.wrappers has no ClipActoin; did you mean ClipAction?" in clip
    assert "No module named 'gymnasium.nowhere'" in nowhere
    assert "did you mean eval?" in typo
    assert "takes no argument 'save_frq'; did you mean save_freq?" in argument


@pytest.mark.parametrize(
    "callback",
    [
        "eval: {callback_on_new_best: checkpoint}",
        "stable_baselines3.common.callbacks.EveryNTimesteps: {n_steps: 9, callback: checkpoint}",
        "stable_baselines3.common.callbacks.CallbackList: {callbacks: [checkpoint]}",
    ],
)
def test_callbacks_that_others_call_are_for_python(tmp_path: Path, callback: str) -> None:
    message = r"callback\w* takes a callback, which only a config in Python can give"
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, f"default: {{callback: {{{callback}}}}}").check_components()


def test_noise_as_the_zoo_makes_it(tmp_path: Path) -> None:
    text = "default: {noise_type: normal, noise_std: 0.2}"
    noise = read(tmp_path, text).model_arguments(2)["action_noise"]
    assert type(noise) is NormalActionNoise
    assert noise._sigma.tolist() == [0.2, 0.2]


@pytest.mark.parametrize("path", sorted(PACKAGED.glob("*.yml")), ids=lambda path: path.stem)
def test_the_packaged_configs_are_right(path: Path) -> None:
    entries = yaml.safe_load(path.read_text())
    assert "default" in entries
    for entry in entries:
        # One file is for algorithms of plugins, whose names nobody knows here.
        experiment = read_experiment(path, "sac" if path.stem == "plugin" else path.stem, entry)
        assert experiment.n_timesteps
        experiment.check_components()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("dict()", {}),
        (" dict(a=-1.5, b=+2, c=(1,), d=[], e={'f': None, 3: True}) ", None),
        (
            "dict(net_arch=dict(pi=[256, 256], qf=[1024]))",
            {"net_arch": {"pi": [256, 256], "qf": [1024]}},
        ),
        ("nn.Tanh", nn.Tanh),
        ("[th.nn.SiLU, torch.optim.Adam]", [nn.SiLU, optim.Adam]),
        ("'text'", "text"),
        ("1_000", 1000),
    ],
)
def test_expressions_mean_what_they_mean_in_python(text: str, value: Any) -> None:
    assert read_expression(text) == (eval(text) if value is None else value)


def test_expressions_may_be_as_deep_long_and_large_as_their_bounds() -> None:
    for deep, wide, long in ((19, 499, 2000), (20, 500, 2001)):
        texts = ("[" * deep + "1" + "]" * deep, f"[{'1,' * wide}]", "1".ljust(long))
        for text in texts:
            if deep == 19:
                assert read_expression(text) == eval(text)
            else:
                with pytest.raises(ExpressionError):
                    read_expression(text)


def test_every_name_exists() -> None:
    for name in NAMES:
        assert isinstance(read_expression(name), type), name


def test_a_refusal_names_the_part_and_the_nearest_name() -> None:
    with pytest.raises(ExpressionError) as caught:
        read_expression("dict(activation_fn=nn.LeakyRelu)")
    expected = (
        "'nn.LeakyRelu' in 'dict(activation_fn=nn.LeakyRelu)': not a name that configs may use"
    )
    assert str(caught.value) == f"{expected}; did you mean nn.LeakyReLU?"


def test_the_example_of_the_documentation_is_right(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "configs.md").read_text()
    example = tmp_path / "example.yml"
    example.write_text(text.partition("```yaml\n")[2].partition("```")[0])
    walker = read_experiment(example, "sac", "BipedalWalker-v3", overrides=["gamma=0.98"])
    assert walker.normalize == {"norm_obs": True, "norm_reward": False, "gamma": 0.98}
    assert walker.arguments["train_freq"] == (1, "episode")
    hard = read_experiment(example, "td3", "BipedalWalkerHardcore-v3")
    assert hard.n_timesteps == 10**7
    assert hard.env_wrapper[0].params == {"max_steps": 2000}

"""What the package brings itself, registered through the hooks that everybody uses."""

from collections.abc import Iterable

from pyrl_sb3.plugins.hookspecs import hookimpl
from pyrl_sb3.plugins.types import (
    AlgorithmSpec,
    CallbackSpec,
    EngineSpec,
    EnvironmentSpec,
    EnvWrapperSpec,
    FeaturesExtractorSpec,
    NoiseSpec,
    PolicySpec,
    ReplayBufferSpec,
    SyncCallbackSpec,
)

_SB3, _CONTRIB, _OURS = "stable_baselines3", "sb3_contrib", "pyrl_sb3.algorithms"


@hookimpl
def pyrl_noise_processes() -> Iterable[NoiseSpec]:
    """The processes of `pyrl_sb3.noise`."""
    yield NoiseSpec(
        name="normal",
        target="pyrl_sb3.noise.action:gaussian",
        aliases=("gaussian",),
        summary="independent Gaussian noise at each step",
    )
    yield NoiseSpec(
        name="ou",
        target="pyrl_sb3.noise.action:ornstein_uhlenbeck",
        aliases=("ornstein-uhlenbeck",),
        summary="Ornstein-Uhlenbeck noise; sigma is its stationary standard deviation",
    )
    yield NoiseSpec(
        name="eps",
        target="pyrl_sb3.noise.greedy:epsilon_greedy",
        aliases=("epsilon-greedy",),
        scale="probability",
        summary="random actions now and then; eps_0.2+normal_0.1 has noise on the others",
    )
    yield NoiseSpec(
        name="param",
        target="pyrl_sb3.noise.parameter:parameter",
        aliases=("parameter",),
        scale="target",
        summary="noise on the actor's parameters, adapted until actions differ by the target",
    )
    yield NoiseSpec(
        name="policy",
        target="pyrl_sb3.noise.policy:policy",
        scale=None,
        summary="another noise in the place of a stochastic policy's own; policy+ou in short",
    )
    yield NoiseSpec(
        name="scheduled",
        target="pyrl_sb3.noise.scheduled:scheduled",
        scale=None,
        summary="another noise, falling over the training; ou_0.3..0.1 in short",
    )


@hookimpl
def pyrl_replay_buffers() -> Iterable[ReplayBufferSpec]:
    """The buffers of `pyrl_sb3.buffers`."""
    yield ReplayBufferSpec(
        name="uniform",
        target="pyrl_sb3.buffers:ReplayBuffer",
        summary="uniform replay, each observation stored once",
    )
    yield ReplayBufferSpec(
        name="dict",
        target="pyrl_sb3.buffers:DictReplayBuffer",
        observation_kinds=frozenset({"dict"}),
        summary="uniform replay of dictionary observations",
    )
    yield ReplayBufferSpec(
        name="her",
        target="pyrl_sb3.buffers:HerReplayBuffer",
        observation_kinds=frozenset({"dict"}),
        needs=frozenset({"env"}),
        summary="hindsight experience replay",
    )


@hookimpl
def pyrl_sync_callbacks() -> Iterable[SyncCallbackSpec]:
    """The strategies of `pyrl_sb3.training.sync`."""
    for name, summary in (
        ("mean", "all go on from the mean of all (FedAvg, McMahan 2017)"),
        ("weighted", "all go on from a mean weighted by return"),
        ("best", "those that stay behind take over the best copy (PBT, Jaderberg 2017)"),
        ("soft-best", "all go a part of the way to the best copy (after P3S, Jung 2020)"),
        ("elastic", "copies and a centre draw each other (EASGD, Zhang 2015)"),
        ("outer", "Nesterov's momentum on the mean change (DiLoCo, Douillard 2023)"),
    ):
        yield SyncCallbackSpec(
            name=name,
            target=f"pyrl_sb3.training.sync.callback:{name.replace('-', '_')}",
            couples_seeds=True,
            summary=summary,
        )


@hookimpl
def pyrl_callbacks() -> Iterable[CallbackSpec]:
    """SB3's callbacks."""
    for name, attribute, summary in (
        ("eval", "EvalCallback", "evaluate at intervals, keep the best model"),
        ("checkpoint", "CheckpointCallback", "save the model at intervals"),
        ("stop-at-episodes", "StopTrainingOnMaxEpisodes", "end after a number of episodes"),
        ("progress-bar", "ProgressBarCallback", "show a progress bar"),
    ):
        target = f"{_SB3}.common.callbacks:{attribute}"
        yield CallbackSpec(name=name, target=target, summary=summary)


@hookimpl
def pyrl_policies() -> Iterable[PolicySpec]:
    """The policies of `pyrl_sb3.policies`."""
    for title in ("DDPG", "TD3", "SAC", "TQC", "CrossQ"):
        alike = {"ddpg", "td3"}  # but for the number of critics, which a policy decides
        name = title.lower()
        yield PolicySpec(
            name=name,
            target=f"pyrl_sb3.policies:{title}Policy",
            algorithms=frozenset(alike if name in alike else {name}),
            summary=f"policy for {title} that acts and trains faster than SB3's",
        )
    for name, attribute in (("dqn", "DQN"), ("qrdqn", "QRDQN"), ("sac-discrete", "DiscreteSAC")):
        yield PolicySpec(
            name=name,
            target=f"pyrl_sb3.discrete_policies:{attribute}Policy",
            algorithms=frozenset({name}),
            summary=f"policy of {attribute} for observations of any kind",
        )


@hookimpl
def pyrl_features_extractors() -> Iterable[FeaturesExtractorSpec]:
    """SB3's features extractors."""
    for name, attribute, summary in (
        ("flatten", "FlattenExtractor", "flattens the observation"),
        ("combined", "CombinedExtractor", "joins the entries of a dictionary"),
        ("nature-cnn", "NatureCNN", "convolutions for images (Mnih 2015)"),
    ):
        target = f"{_SB3}.common.torch_layers:{attribute}"
        yield FeaturesExtractorSpec(name=name, target=target, summary=summary)
    yield FeaturesExtractorSpec(
        name="normalized-goals",
        target="pyrl_sb3.algorithms.normalized:NormalizedGoals",
        summary="goals normalised together, the rest on its own, by statistics in the policy",
    )


@hookimpl
def pyrl_environments() -> Iterable[EnvironmentSpec]:
    """The environments of `pyrl_sb3.envs`."""
    yield EnvironmentSpec(
        name="bit-flipping",
        target="pyrl_sb3.envs.bit_flipping:BitFlipping",
        summary="turn a row of 30 bits into another (Andrychowicz 2017); BitFlipping-v0",
    )
    yield EnvironmentSpec(
        name="grid-maze",
        target="pyrl_sb3.envs.grid_maze:GridMaze",
        summary="walk from one cell of a maze to another; GridMaze-v0",
    )


@hookimpl
def pyrl_env_wrappers() -> Iterable[EnvWrapperSpec]:
    """When episodes are over for good, what they are rewarded by, which goals are asked for."""
    yield EnvWrapperSpec(
        name="terminate-on-success",
        target="pyrl_sb3.training.wrappers:TerminateOnSuccess",
        summary="reaching a goal, rewarded by 0 and all else by -1, ends the episode for good",
    )
    yield EnvWrapperSpec(
        name="never-done",
        target="pyrl_sb3.training.wrappers:NeverDone",
        summary="no end is for good: learning assumes that all goes on",
    )
    yield EnvWrapperSpec(
        name="goal-difference",
        target="pyrl_sb3.training.wrappers:GoalDifference",
        summary="observations have what is left to the goal, in hindsight too",
    )
    yield EnvWrapperSpec(
        name="bounded-rewards",
        target="pyrl_sb3.training.wrappers:BoundedRewards",
        summary="rewards within bounds for learning, the true ones where agents are evaluated",
    )
    yield EnvWrapperSpec(
        name="relay-goals",
        target="pyrl_sb3.training.relay:RelayGoals",
        summary="an arm first reaches for an object, then brings it to its goal (Luo 2023)",
    )


@hookimpl
def pyrl_engines() -> Iterable[EngineSpec]:
    """Processes of this machine."""
    yield EngineSpec(
        name="processes",
        target="pyrl_sb3.training.engines:LocalProcesses",
        aliases=("local",),
        summary="processes of this machine",
    )


@hookimpl
def pyrl_algorithms() -> Iterable[AlgorithmSpec]:
    """The algorithms of `pyrl_sb3.algorithms`, and three of sb3-contrib."""
    discrete = {"dqn", "sac-discrete", "qrdqn"}
    for name, target, summary in (
        ("ddpg", f"{_OURS}:DDPG", "deep deterministic policy gradient (Lillicrap 2015)"),
        ("td3", f"{_OURS}:TD3", "twin delayed DDPG (Fujimoto 2018)"),
        ("sac", f"{_OURS}:SAC", "soft actor-critic (Haarnoja 2018)"),
        (
            "tqc",
            f"{_CONTRIB}:TQC",
            "truncated quantile critics (Kuznetsov 2020), sb3-contrib's",
        ),
        (
            "crossq",
            f"{_CONTRIB}:CrossQ",
            "no target networks, batch renormalisation (Bhatt 2024), sb3-contrib's",
        ),
        (
            "dqn",
            f"{_OURS}:DQN",
            "deep Q-learning (Mnih 2015), double (van Hasselt 2016) if wanted",
        ),
        (
            "sac-discrete",
            f"{_OURS}:DiscreteSAC",
            "soft actor-critic, discrete actions (Christodoulou 2019)",
        ),
        ("qrdqn", f"{_CONTRIB}:QRDQN", "quantile regression DQN (Dabney 2018), sb3-contrib's"),
    ):
        weighs = {"priority-updates", "importance-weights"} if target.startswith(_OURS) else set()
        yield AlgorithmSpec(
            name=name,
            target=target,
            policy=f"pyrl/{name}",
            action_kinds=frozenset({"discrete" if name in discrete else "box"}),
            serves=frozenset({"env"} | weighs),
            summary=summary,
        )

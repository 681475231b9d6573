"""The test kit accepts what is right and names what is wrong."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise

from pyrl_sb3.noise.action import GaussianNoise, gaussian
from pyrl_sb3.plugins import NoiseSpec, SyncCallbackSpec, hookimpl
from pyrl_sb3.testing import (
    NoiseSuite,
    SyncCallbackSuite,
    check_noise,
    check_sync_callback,
    noise,
    sync,
)
from pyrl_sb3.testing.checks import check_component
from pyrl_sb3.testing.lockstep import Lockstep


class TestOrnsteinUhlenbeck(NoiseSuite):
    ref = "pyrl/ou"
    params = {"sigma": 0.3, "theta": 0.01}  # noqa: RUF012


class Reusing(GaussianNoise):
    """Writes each draw over the last one."""

    def __call__(self):
        self.last = getattr(self, "last", np.zeros(self.sigma.shape, np.float32))
        self.last[...] = super().__call__()
        return self.last


class Double(GaussianNoise):
    def __call__(self):
        return super().__call__().astype(np.float64)


class Unfinished(GaussianNoise):
    """Loses its generator when it is copied."""

    def __setstate__(self, state):
        self.__dict__ = {**state, "rng": np.random.default_rng(0)}


class Tied(GaussianNoise):
    """Draws its scale from the generator that the process shares."""

    def __call__(self):
        return super().__call__() * np.float32(np.random.get_state()[1][0] % 7 + 1)


class Offset(GaussianNoise):
    """Each episode has an offset."""

    offset = 0.0

    def __call__(self):
        return super().__call__() + np.float32(self.offset)


class Unseeded(Offset):
    def reset(self):
        self.offset = np.random.default_rng().normal()


class Seeding(Offset):
    def reset(self):
        np.random.seed(0)


class Asking(Offset):
    """Looks at the generator that the process shares when an episode begins."""

    def reset(self):
        self.offset = np.random.get_state()[1][0] % 7


class Forgetting(Offset):
    """Its copies have no offset."""

    def reset(self):
        self.offset = self.rng.normal()

    def __getstate__(self):
        return {**self.__dict__, "offset": 0.0}


SHARED = np.zeros(3, np.float32)


class Sharing(GaussianNoise):
    """One value for all there are, in a module."""

    def __call__(self):
        SHARED[...] += super().__call__()
        return SHARED.copy()

    def reset(self):
        SHARED[...] = 0


class SharingByClass(GaussianNoise):
    value = np.zeros(3, np.float32)

    def __call__(self):
        self.value += super().__call__()
        return self.value.copy()


class Restless(GaussianNoise):
    """Its seed has nothing to do with what it draws."""

    def __init__(self, shape, sigma, rng):
        super().__init__(shape, sigma, np.random.default_rng())


class SilentEpisodes(GaussianNoise):
    """Noise in every other episode or so."""

    def __init__(self, *args):
        super().__init__(*args)
        self.reset()

    def reset(self):
        self.on = bool(self.rng.random() < 0.5)

    def __call__(self):
        return super().__call__() * np.float32(self.on)


class OneWay(SilentEpisodes):
    """The same way for a whole episode, or the other."""

    def __call__(self):
        return np.full(3, 0.1 if self.on else -0.1, np.float32)


class VectorsOnly(GaussianNoise):
    """Correlated along the action."""

    def __init__(self, shape, sigma, rng):
        if len(shape) != 1:
            raise ValueError("correlated noise is for vectors of actions")
        super().__init__(shape, sigma, rng)


class VectorsOnlyOnceDrawn(GaussianNoise):
    def __call__(self):
        return np.linalg.cholesky(np.eye(3) / 2 + 0.5).astype(np.float32) @ super().__call__()


class InText(GaussianNoise):
    """Keeps its state in text, of a part of it."""

    def __init__(self, shape, sigma, rng):
        super().__init__(shape, sigma, rng)
        self.kind, self.part = "".join(["gauss", "ian"]), Switch()

    def __call__(self):
        self.part.mode = {"on": "off", "off": "on"}[self.part.mode]
        return super().__call__() * np.float32(self.part.mode == "on")


class Switch:
    mode = "on"


class InSlots(GaussianNoise):
    __slots__ = ("draws",)

    def __call__(self):
        self.draws = getattr(self, "draws", 0) + 1
        return super().__call__() / np.float32(self.draws)


class InTensors(GaussianNoise):
    """Keeps its value where no checkpoint looks."""

    value = th.zeros(())

    def __call__(self):
        self.value = 0.9 * self.value + th.as_tensor(super().__call__())
        return self.value.numpy().copy()


class Cycling(GaussianNoise):
    """Keeps its place where no checkpoint looks."""

    def __init__(self, *args):
        super().__init__(*args)
        self.scales = iter(range(10**9))

    def __call__(self):
        return super().__call__() * np.float32(next(self.scales) % 3 + 1)


class Late(GaussianNoise):
    """Has an object in the place of a number, once it has drawn."""

    def __init__(self, *args):
        super().__init__(*args)
        self.past = 0

    def __call__(self):
        self.past = SimpleNamespace(drawn=super().__call__())
        return self.past.drawn


def of(cls):
    return lambda context: cls(context.action_space.shape, 0.1, context.rng)


def constant(context):
    return gaussian(replace(context, rng=np.random.default_rng(0)))


def stock(context):
    return NormalActionNoise(np.zeros(3), np.ones(3))


def wide(context):
    return GaussianNoise((6,), 0.1, context.rng)


def flat(context):
    return GaussianNoise((np.prod(context.action_space.shape),), 0.1, context.rng)


@pytest.mark.parametrize(
    ("factory", "problem"),
    [
        (lambda context: 3, "no ActionNoise"),
        (wide, r"have shape \(64, 6\), not \(64, 3\)"),
        (flat, r"have shape \(64, 4\), not \(64, 2, 2\)"),
        (of(Double), "float64, not float32"),
        (of(Reusing), "a draw changes when the next one is made"),
        (stock, "moves numpy's global generator"),
        (constant, "the seed has no influence"),
        (of(Sharing), "draws by state that is not its own"),
        (of(SharingByClass), "draws by state that is not its own"),
        (of(Restless), "two processes with one seed draw differently"),
        (of(Tied), "depends on numpy's global generator"),
        (of(Unfinished), "a copy does not continue the stream"),
        (of(Unseeded), "two processes with one seed draw differently"),
        (of(Seeding), "moves numpy's global generator"),
        (of(Asking), "depends on numpy's global generator"),
        (of(InTensors), "a checkpoint loses some of its state: it does not keep value; of attr"),
        (of(InText), r"it does not keep part\.mode; of attributes it keeps .*, no text"),
        (of(InSlots), "loses some of its state: of attributes it keeps .* of __slots__"),
        (of(Cycling), "it does not keep scales; of attributes"),
        (of(Late), r"checkpoints_keep_it: StateError: Late\.past: int is not what was captured"),
        (of(Forgetting), "a copy does not continue the stream"),
    ],
)
def test_wrong_noise_is_named(pyrl_plugins, factory, problem):
    class Plugin:
        @hookimpl
        def pyrl_noise_processes(self):
            yield NoiseSpec(name="wrong", target=factory)

    pyrl_plugins.register(Plugin(), "acme")
    with pytest.raises(AssertionError, match=problem):
        check_noise("wrong", manager=pyrl_plugins)


def by_dimension(context, knots=(), sigma=0.1):
    """Draws of as many dimensions as there are parameters."""
    return GaussianNoise(np.shape(sigma) or context.action_space.shape, sigma, context.rng)


@pytest.mark.parametrize(
    ("check", "factory", "params"),
    [
        (noise.environments_differ, of(SilentEpisodes), {}),
        (noise.environments_differ, of(OneWay), {}),
        (noise.actions_may_be_matrices, of(VectorsOnly), {}),
        (noise.actions_may_be_matrices, of(VectorsOnlyOnceDrawn), {}),
        (noise.actions_may_be_matrices, by_dimension, {"knots": [[0, 1], [2]]}),
        (noise.actions_may_be_matrices, by_dimension, {"sigma": np.full(3, 0.1)}),
    ],
)
def test_correct_noise_passes(pyrl_plugins, check, factory, params):
    pyrl_plugins.register(Noises(factory), "acme")
    check(noise.NoiseCase(ref="right", params=params, manager=pyrl_plugins))


@pytest.mark.parametrize("check", noise.NOISE_CHECKS, ids=lambda check: check.__name__)
def test_noise_that_is_unknown_is_told_by_each_check(pyrl_plugins, check):
    with pytest.raises((AssertionError, LookupError), match="unknown noise 'none'"):
        check(noise.NoiseCase(ref="none", manager=pyrl_plugins))


def test_parameters_per_dimension_are_found_within_those_of_another_noise(pyrl_plugins):
    pyrl_plugins.register(Noises(by_dimension), "acme")
    for inner in ("pyrl/ou", "acme/right"):
        within = {"noise": {"name": inner, "params": {"sigma": [0.1, 0.2, 0.3]}}}
        case = noise.NoiseCase(ref="pyrl/scheduled", params=within, manager=pyrl_plugins)
        noise.actions_may_be_matrices(case)


class Noises:
    def __init__(self, target):
        self.target = target

    @hookimpl
    def pyrl_noise_processes(self):
        yield NoiseSpec(name="right", target=self.target)


class Together(GaussianNoise):
    """One process for all environments, with draws of two dimensions."""

    def reset(self, indices=None):
        if indices is None:
            self.sigma = self.sigma.copy()


def together(context):
    shape = (context.n_envs, *context.action_space.shape)
    return Together(shape, 0.1, context.rng)


def flat_together(context):
    """One process for all environments, with flat draws."""
    size = int(np.prod(context.action_space.shape))
    return Together((context.n_envs, size), 0.1, context.rng)


class Vectorized:
    @hookimpl
    def pyrl_noise_processes(self):
        yield NoiseSpec(name="together", target=together, vectorized=True)
        yield NoiseSpec(name="flat", target=flat_together, vectorized=True)


class Biased(Together):
    """Each episode has a bias of its own, from the generator, or generators, of all."""

    def __init__(self, shape, rngs):
        super().__init__(shape, 0.1, rngs[0])
        self.rngs = rngs
        self.reset()

    def reset(self, indices=None):
        if indices is None:
            self.bias = np.zeros(self.sigma.shape, np.float32)
        for env in range(len(self.bias)) if indices is None else indices:
            self.bias[env] = self.rngs[env].normal(size=self.bias[env].shape)

    def __call__(self):
        drawn = [rng.normal(size=self.bias[0].shape) for rng in self.rngs]
        return self.bias + np.float32(self.sigma * drawn)


def biased(rngs):
    return lambda context: Biased((context.n_envs, *context.action_space.shape), rngs(context))


@pytest.mark.parametrize(
    ("rngs", "told"),
    [
        (lambda context: context.rng.spawn(context.n_envs), ""),
        (
            lambda context: [context.rng] * context.n_envs,
            "the reset of environment 0 changes the noise of others: each is to draw from a "
            "generator of its own, of context.rng.spawn(n_envs)",
        ),
    ],
)
def test_environments_of_vectorized_noise_need_a_generator_each(pyrl_plugins, rngs, told):
    class Plugin:
        @hookimpl
        def pyrl_noise_processes(self):
            yield NoiseSpec(name="it", target=biased(rngs), vectorized=True)

    pyrl_plugins.register(Plugin(), "acme")
    assert check_component(pyrl_plugins, pyrl_plugins.find("noise", "it")) == told


class TestTogether:
    @pytest.mark.parametrize("check", noise.NOISE_CHECKS[:-1], ids=lambda check: check.__name__)
    def test_vectorized_noise_as_documented_passes(self, pyrl_plugins, check):
        pyrl_plugins.register(Vectorized(), "acme")
        check(noise.NoiseCase(ref="together", manager=pyrl_plugins))

    def test_draws_of_matrices_that_are_flat_are_told(self, pyrl_plugins):
        pyrl_plugins.register(Vectorized(), "acme")
        with pytest.raises(ValueError, match=r"draws have shape \(1, 4\), not \(1, 2, 2\)"):
            noise.actions_may_be_matrices(noise.NoiseCase(ref="flat", manager=pyrl_plugins))


class Short(GaussianNoise):
    """Breaks in the second episode."""

    resets = 0

    def reset(self):
        self.resets += 1
        if self.resets > 1:
            raise RuntimeError("one episode only")


def test_noise_that_breaks_in_training_is_told(pyrl_plugins):
    class Plugin:
        @hookimpl
        def pyrl_noise_processes(self):
            yield NoiseSpec(name="short", target=of(Short))

    pyrl_plugins.register(Plugin(), "acme")
    with pytest.raises(AssertionError, match="TD3 does not train with it: RuntimeError: one epis"):
        noise.stock_models_train(noise.NoiseCase(ref="short", manager=pyrl_plugins))


class Averaging(BaseCallback):
    """Every `interval` steps all copies take the mean of the actors."""

    def __init__(self, context):
        super().__init__()
        self.context = context

    def _on_step(self):
        if self.num_timesteps % self.context.interval == 0:
            self.synchronise()
        return True

    def synchronise(self):
        actor = self.model.actor
        mine = {name: value.numpy() for name, value in actor.state_dict().items()}
        everybody = list(self.context.group.all_gather(mine).values())
        means = {name: np.mean([one[name] for one in everybody], axis=0) for name in mine}
        actor.load_state_dict({name: th.as_tensor(mean) for name, mean in means.items()})


class Idle(BaseCallback):
    def __init__(self, context):
        super().__init__()

    def _on_step(self):
        return True


class Meddling(Averaging):
    """Changes a lone copy as well."""

    def synchronise(self):
        super().synchronise()
        with th.no_grad():
            next(self.model.actor.parameters()).mul_(0.9)


class Irregular(Averaging):
    """Copy 0 skips every second exchange."""

    def synchronise(self):
        rank = self.context.group.rank
        if rank or self.num_timesteps % (2 * self.context.interval):
            super().synchronise()


class Headed(Averaging):
    """Cannot do without copy 0."""

    def synchronise(self):
        self.context.group.all_gather({"x": np.zeros(1)})[0]
        super().synchronise()


class DividingByAll(Averaging):
    """By the number of copies that there were at first."""

    def synchronise(self):
        super().synchronise()
        left = len(self.context.group.all_gather({"x": np.zeros(1)}))
        with th.no_grad():
            for parameter in self.model.actor.parameters():
                parameter.mul_(left / self.context.group.size)


class ByEpisodes(Averaging):
    """Exchanges whenever an episode is over."""

    def _on_step(self):
        if self.locals["dones"][0]:
            self.synchronise()
        return True


class AtZeroOnly(Averaging):
    """Only copy 0 exchanges."""

    def synchronise(self):
        if self.context.group.rank == 0:
            super().synchronise()


class SaysNothing(Averaging):
    def _on_step(self):
        super()._on_step()


class Ending(Averaging):
    """Ends the training, on purpose."""

    def _on_step(self):
        return super()._on_step() and self.num_timesteps < 16


class Drawing(Averaging):
    """Exchanges and draws, so that each copy trains otherwise than alone, and uses nothing."""

    def synchronise(self):
        if self.context.group.size > 1:
            self.context.group.all_gather({"x": np.random.rand(3)})


class Following(Averaging):
    """The copies take over the last one's actor: the others' have no influence."""

    def synchronise(self):
        actor = self.model.actor
        mine = {name: value.numpy() for name, value in actor.state_dict().items()}
        *_, last = self.context.group.all_gather(mine).values()
        actor.load_state_dict({name: th.as_tensor(value) for name, value in last.items()})


class Weighing(Averaging):
    """Goes part of the way, as far as the generator says that all have."""

    def synchronise(self):
        self.go(self.context.rng.random())

    def go(self, share):
        before = {name: value.clone() for name, value in self.model.actor.state_dict().items()}
        super().synchronise()
        if self.context.group.size > 1:
            means = self.model.actor.state_dict()
            part = {name: th.lerp(before[name], mean, share) for name, mean in means.items()}
            self.model.actor.load_state_dict(part)


class Aside(Weighing):
    """Has the generator where no checkpoint looks."""

    def __init__(self, context):
        super().__init__(context)
        self.helper = SimpleNamespace(rng=context.rng.spawn(1)[0])

    def synchronise(self):
        self.go(self.helper.rng.random())


class Turning(Weighing):
    """Goes by turns, of which it knows by a text; the last mean is for the record alone."""

    turn, last = "near", None

    def synchronise(self):
        self.turn = {"near": "far", "far": "near"}[self.turn]
        self.last = np.zeros(3)
        self.go({"near": 0.2, "far": 0.9}[self.turn])


class Momentum(Averaging):
    """Remembers the means as tensors."""

    def __init__(self, context):
        super().__init__(context)
        self.remembered = {}

    def synchronise(self):
        super().synchronise()
        if self.context.group.size > 1:
            means = self.model.actor.state_dict()
            for name, mean in means.items():
                self.remembered[name] = 0.5 * (mean + self.remembered.get(name, mean))
            self.model.actor.load_state_dict(self.remembered)


class Openly(Momentum):
    """Says that it begins anew."""

    keeps_state = False


class Replaying(Averaging):
    """Reads the oldest that its replay buffer has: the longer it is ago, the less it takes over."""

    def synchronise(self):
        buffer = self.model.replay_buffer
        batch = buffer.sample_at(np.array([buffer.store.first]), np.array([0]))
        if batch.rewards.item() < 0:
            super().synchronise()


class Unrepeatable(Averaging):
    calls = 0

    def synchronise(self):
        Unrepeatable.calls += 1
        if self.context.group.size > 1:
            with th.no_grad():
                next(self.model.actor.parameters()).add_(Unrepeatable.calls * 1e-3)
        super().synchronise()


class Syncs:
    def __init__(self, target, couples_seeds=True):
        self.spec = SyncCallbackSpec(name="it", target=target, couples_seeds=couples_seeds)

    @hookimpl
    def pyrl_sync_callbacks(self):
        return [self.spec]


class TestAveraging(SyncCallbackSuite):
    ref = f"{__name__}:Averaging"


@pytest.mark.parametrize("callback", [Weighing, Replaying])
def test_callbacks_may_use_what_they_are_offered(pyrl_plugins, callback):
    pyrl_plugins.register(Syncs(callback), "acme")
    check_sync_callback("it", manager=pyrl_plugins)


@pytest.mark.parametrize(
    ("callback", "lost"),
    [(Momentum, "remembered"), (Aside, "helper"), (Turning, "turn")],
)
def test_state_that_no_checkpoint_keeps_is_named(pyrl_plugins, callback, lost):
    pyrl_plugins.register(Syncs(callback), "acme")
    problem = rf"loses some of its state: it does not keep {lost}; of attributes it .*, tensors"
    with pytest.raises(AssertionError, match=problem):
        check_sync_callback("it", manager=pyrl_plugins)


def test_callbacks_that_say_that_nothing_is_kept_are_believed(pyrl_plugins):
    pyrl_plugins.register(Syncs(Openly), "acme")
    sync.checkpoints_keep_it(sync.SyncCase(ref="it", manager=pyrl_plugins))


def test_a_callback_that_leaves_the_seeds_alone_passes(pyrl_plugins):
    pyrl_plugins.register(Syncs(Idle, couples_seeds=False), "acme")
    check_sync_callback("it", manager=pyrl_plugins)


@pytest.mark.parametrize(
    ("callback", "couples"), [(Averaging, True), (Following, True), (Idle, False), (Drawing, False)]
)
def test_coupling_is_that_one_copy_changes_another(pyrl_plugins, callback, couples):
    pyrl_plugins.register(Syncs(callback, couples), "acme")
    sync.coupling_is_declared(sync.SyncCase(ref="it", manager=pyrl_plugins))


@pytest.mark.parametrize(
    ("callback", "couples", "check", "problem"),
    [
        (lambda context: 3, True, sync.gives_a_callback, "no BaseCallback"),
        (Meddling, True, sync.one_copy_is_left_alone, "changes the training of a single copy"),
        (Averaging, False, sync.coupling_is_declared, "declares couples_seeds=False"),
        (Following, False, sync.coupling_is_declared, "declares couples_seeds=False"),
        (Idle, True, sync.coupling_is_declared, "declares couples_seeds=True"),
        (Drawing, True, sync.coupling_is_declared, "declares couples_seeds=True"),
        (Unrepeatable, True, sync.runs_agree, "two executions end differently"),
        (Irregular, True, sync.copies_call_in_step, "not equally often"),
        (ByEpisodes, True, sync.copies_call_in_step, "not equally often"),
        (SaysNothing, True, sync.one_copy_is_left_alone, "after 1 of 64 steps: does its _on_step"),
        (
            Ending,
            True,
            sync.one_copy_is_left_alone,
            r"after 16 of 64 .* True\? A single copy is to",
        ),
        (DividingByAll, True, sync.survives_the_end_of_a_copy, "weights of actor shrink to"),
        (Headed, True, sync.survives_the_end_of_a_copy, "KeyError: 0"),
    ],
)
def test_wrong_callbacks_are_named(pyrl_plugins, callback, couples, check, problem):
    pyrl_plugins.register(Syncs(callback, couples), "acme")
    with pytest.raises(AssertionError, match=problem):
        check(sync.SyncCase(ref="it", manager=pyrl_plugins))


@pytest.mark.parametrize(
    ("callback", "problem"),
    [(AtZeroOnly, "not equally often"), (Unrepeatable, "two executions end differently")],
)
def test_the_cause_is_told_before_what_follows_from_it(pyrl_plugins, callback, problem):
    """Also where it is declared otherwise, which cannot be said of these."""
    for couples in (True, False):
        plugin = Syncs(callback, couples)
        pyrl_plugins.register(plugin, f"acme-{couples}".lower())
        with pytest.raises(AssertionError, match=problem):
            check_sync_callback(f"acme-{couples}/it".lower(), manager=pyrl_plugins)


def test_copies_exchange_in_rank_order_and_outlive_each_other():
    def copy(group):
        return [
            {
                rank: value["x"].item()
                for rank, value in group.all_gather({"x": np.array(turn)}).items()
            }
            for turn in range(group.rank + 1)
        ]

    assert Lockstep(3).run([copy] * 3) == [
        [{0: 0, 1: 0, 2: 0}],
        [{0: 0, 1: 0, 2: 0}, {1: 1, 2: 1}],
        [{0: 0, 1: 0, 2: 0}, {1: 1, 2: 1}, {2: 2}],
    ]


def test_a_copy_that_exits_ends_all():
    def copy(group):
        raise SystemExit(group.rank)

    with pytest.raises(SystemExit, match="0"):
        Lockstep(2).run([copy] * 2)


def test_each_copy_has_its_own_global_generators():
    def copy(group):
        np.random.seed(group.rank)
        first = np.random.rand()
        group.all_gather({})
        return [first, np.random.rand()]

    expected = [np.random.RandomState(rank).rand(2).tolist() for rank in range(3)]
    assert Lockstep(3).run([copy] * 3) == expected

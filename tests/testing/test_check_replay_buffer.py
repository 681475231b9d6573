"""The kit for replay buffers accepts what is right, and says of what is not what is wrong."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
from stable_baselines3 import HerReplayBuffer as StockHer
from stable_baselines3.common.buffers import DictReplayBuffer as StockDict
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer as Stock

from pyrl_sb3.buffers import DictReplayBuffer, HerReplayBuffer, ReplayBuffer
from pyrl_sb3.buffers.views import Count
from pyrl_sb3.testing import check_replay_buffer, replay_buffers
from pyrl_sb3.testing.buffer_case import buffer_cases


@pytest.mark.parametrize("cls", [ReplayBuffer, DictReplayBuffer, HerReplayBuffer])
def test_our_buffers_pass(cls):
    check_replay_buffer(cls)


def test_a_buffer_that_keeps_more_than_transitions_as_documented_passes():
    check_replay_buffer(ByReward)


def test_parameters_are_passed_on():
    for case in buffer_cases(HerReplayBuffer, {"n_sampled_goal": 9}):
        assert case.make().her_ratio == 0.9
        replay_buffers.what_is_stored_is_sampled(case)
    with pytest.raises(AssertionError, match=r"_like_sb3s: TypeError: .*unknown_parameter"):
        check_replay_buffer(ReplayBuffer, {"unknown_parameter": 1})


def test_discounts_of_one_step_are_gamma():
    for case in buffer_cases(NStepReplayBuffer, {"n_steps": 1, "gamma": 0.9}):
        replay_buffers.samples_are_like_sb3s(case)
        replay_buffers.what_is_stored_is_sampled(case)


class ThreeSteps(ReplayBuffer):
    def __init__(self, *args, n_steps=3, **kwargs):
        super().__init__(*args, n_steps=n_steps, **kwargs)


class OtherName(ReplayBuffer):
    """Its parents' `n_steps` cannot be given to it."""

    def __init__(self, *args, multi_step=3, **kwargs):
        super().__init__(*args, n_steps=multi_step, **kwargs)


class TwoSteps(HerReplayBuffer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, n_steps=2, **kwargs)


class ForwardsThree(NStepReplayBuffer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


class CountsSteps(Stock):
    """And calls that `n_steps`."""

    n_steps = 0

    def add(self, *args):
        super().add(*args)
        self.n_steps += 1


def test_of_buffers_of_several_steps_that_of_one_is_checked():
    check_replay_buffer(ReplayBuffer, {"n_steps": 3, "gamma": 0.9})
    check_replay_buffer(ThreeSteps)


@pytest.mark.parametrize(
    ("cls", "params"),
    [
        (OtherName, {}),
        (OtherName, {"multi_step": 1}),
        (TwoSteps, {}),
        (ForwardsThree, {}),
        (ForwardsThree, {"n_steps": 2}),
        (CountsSteps, {}),
    ],
)
def test_no_n_steps_is_given_to_what_sets_it_itself(cls, params):
    for case in buffer_cases(cls, params):
        replay_buffers.samples_are_like_sb3s(case)
        replay_buffers.what_is_stored_is_sampled(case)


class ZeroAtEnds(ReplayBuffer):
    """Discounts as in `r + discounts * (1 - dones) * Q`, with the ends in both."""

    def sample_at(self, *args, **kwargs):
        batch = super().sample_at(*args, **kwargs)
        return batch._replace(discounts=0.99 * (1 - batch.dones))


def test_discounts_may_be_zero_at_ends():
    for case in buffer_cases(ZeroAtEnds):
        replay_buffers.samples_are_like_sb3s(case)


class Recent(ReplayBuffer):
    """Draws the oldest seldom, as Emphasizing Recent Experience does."""

    def _draw(self, batch_size):
        stored = self.store.now - self.store.first
        ages = np.minimum(self.rng.exponential(stored / 6, batch_size).astype(int), stored - 1)
        return self.store.now - 1 - ages, self.rng.integers(self.n_envs, size=batch_size)


def test_what_is_drawn_seldom_is_drawn():
    for case in buffer_cases(Recent):
        replay_buffers.what_is_stored_is_sampled(case)


@pytest.mark.parametrize("cls", [Stock, StockDict, StockHer])
def test_sb3s_own_only_fail_for_the_generator_they_share(cls):
    with pytest.raises(AssertionError, match="sampling moves numpy's global generator"):
        check_replay_buffer(cls)


class LacksDones(ReplayBuffer):
    def sample(self, *args, **kwargs):
        batch = super().sample(*args, **kwargs)._asdict()
        return SimpleNamespace(**{k: v for k, v in batch.items() if k != "dones"})


class FlatRewards(ReplayBuffer):
    def sample(self, *args, **kwargs):
        batch = super().sample(*args, **kwargs)
        return batch._replace(rewards=batch.rewards[:, 0])


class DoubleActions(ReplayBuffer):
    def sample(self, *args, **kwargs):
        batch = super().sample(*args, **kwargs)
        return batch._replace(actions=batch.actions.double())


class OneBehind(ReplayBuffer):
    """Gives the observation for the next one."""

    def sample(self, *args, **kwargs):
        batch = super().sample(*args, **kwargs)
        return batch._replace(next_observations=batch.observations)


class OtherRewards(ReplayBuffer):
    def add(self, obs, next_obs, action, reward, done, infos):
        super().add(obs, next_obs, action, 0.99 * reward, done, infos)


class ClippedRewards(ReplayBuffer):
    bounds = (-10, 10)

    def add(self, obs, next_obs, action, reward, done, infos):
        super().add(obs, next_obs, action, np.clip(reward, *self.bounds), done, infos)


class PositiveRewards(ClippedRewards):
    bounds = (0, np.inf)


class FirstActionOnly(ReplayBuffer):
    def add(self, obs, next_obs, action, reward, done, infos):
        super().add(obs, next_obs, action[:, :1].repeat(2, 1), reward, done, infos)


class WrongOnlyAtEnds(ReplayBuffer):
    def sample(self, *args, **kwargs):
        batch = super().sample(*args, **kwargs)
        return batch._replace(discounts=0.99 - 0.5 * batch.dones)


class NoDiscounts(ReplayBuffer):
    discount = 0.0

    def sample(self, *args, **kwargs):
        batch = super().sample(*args, **kwargs)
        return batch._replace(discounts=th.full_like(batch.rewards, self.discount))


class OtherDiscounts(NoDiscounts):
    """Than those of the `gamma` that it has."""

    discount = 0.5


class Undiscounted(Stock):
    """Knows no discount, and says that it is 1."""

    def sample(self, *args, **kwargs):
        batch = super().sample(*args, **kwargs)
        return batch._replace(discounts=th.ones_like(batch.rewards))


class WeightsOfZeros(ReplayBuffer):
    def sample(self, *args, **kwargs):
        batch = super().sample(*args, **kwargs)
        return SimpleNamespace(**batch._asdict(), weights=0 * batch.rewards / 0)


class FirstHalf(ReplayBuffer):
    """Never samples the newest."""

    def _draw(self, batch_size):
        positions, envs = super()._draw(batch_size)
        return positions // 2, envs


class AllButTheNewest(ReplayBuffer):
    """Takes the position of the newest for that of the next one."""

    def _draw(self, batch_size):
        positions, envs = super()._draw(batch_size)
        return np.minimum(positions, max(self.store.now - 2, self.store.first)), envs


class HerOfAllButTheNewest(HerReplayBuffer):
    def _draw(self, batch_size):
        positions, envs = super()._draw(batch_size)
        return np.minimum(positions, max(self.store.now - 2, self.store.first)), envs


class AllButTheOldest(ReplayBuffer):
    """Once it is full."""

    def _draw(self, batch_size):
        positions, envs = super()._draw(batch_size)
        return np.maximum(positions, self.store.first + self.full), envs


class FirstEnvOnly(ReplayBuffer):
    def _draw(self, batch_size):
        positions, envs = super()._draw(batch_size)
        return positions, envs * 0


class ForeignGoals(HerReplayBuffer):
    """Relabels with a goal of any episode."""

    def _choose(self, where):
        return self.rng.permutation(super()._choose(where))


class InOrder(HerReplayBuffer):
    """Gives the newest transitions of a batch new goals, and the oldest theirs."""

    def _draw(self, batch_size):
        positions, envs = super()._draw(batch_size)
        order = np.argsort(positions)
        return positions[order], envs[order]


class InOrderOfEnvs(HerReplayBuffer):
    def _draw(self, batch_size):
        positions, envs = super()._draw(batch_size)
        order = np.argsort(envs)
        return positions[order], envs[order]


class TimeoutsAreDones(ReplayBuffer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, handle_timeout_termination=False, **kwargs)


class NothingIsDone(ReplayBuffer):
    def sample(self, *args, **kwargs):
        batch = super().sample(*args, **kwargs)
        return batch._replace(dones=th.zeros_like(batch.dones))


class NeverForgets(ReplayBuffer):
    def __init__(self, buffer_size, *args, **kwargs):
        super().__init__(2 * buffer_size, *args, **kwargs)


class NeverForgetsInside(NeverForgets):
    """And says that it does."""

    def add(self, *args):
        super().add(*args)
        half = self.buffer_size // 2
        self.pos, self.full = self.store.now % half, self.store.now >= half

    def size(self):
        return super().size() if not self.full else self.buffer_size // 2


class WritesIntoObservations(ReplayBuffer):
    def add(self, obs, *args):
        super().add(obs, *args)
        obs += 1


class TakesFromInfos(ReplayBuffer):
    def add(self, obs, next_obs, action, reward, done, infos):
        for info in infos:
            info.pop("terminal_observation", None)
        super().add(obs, next_obs, action, reward, done, infos)


class KeepsReferences(ReplayBuffer):
    """Stores a step only when the next one comes."""

    waiting = None

    def add(self, *args):
        if self.waiting is not None:
            super().add(*self.waiting)
        self.waiting = args

    def sample(self, *args, **kwargs):
        if self.waiting is not None:
            super().add(*self.waiting)
            self.waiting = None
        return super().sample(*args, **kwargs)


class GivesItsOwn(ReplayBuffer):
    """One tensor for every sample."""

    def sample(self, batch_size, env=None):
        if not hasattr(self, "given") or len(self.given.rewards) != batch_size or env:
            self.given = super().sample(batch_size, env)
        return self.given


class DrawsFromNumpy(ReplayBuffer):
    def _draw(self, batch_size):
        self.rng = np.random.mtrand._rand
        every = np.random.randint(self.store.now - self.store.first, size=batch_size)
        return every + self.store.first, every * 0


class DrawsFromTorch(ReplayBuffer):
    def _draw(self, batch_size):
        every = th.randint(self.store.now - self.store.first, (batch_size,)).numpy()
        return every + self.store.first, every % self.n_envs


class Unseeded(ReplayBuffer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.rng = np.random.default_rng()


class SeededOnce(ReplayBuffer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, seed=3, **kwargs)


class IgnoresVecNormalize(ReplayBuffer):
    def sample(self, batch_size, env=None):
        return super().sample(batch_size)


class NormalisesObservationsOnly(ReplayBuffer):
    def _normalize_reward(self, reward, env=None):
        return reward


class StaysOnTheProcessor(ReplayBuffer):
    def _batch(self, *args):
        self.device = th.device("cpu")
        return super()._batch(*args)


class RemembersAfterReset(ReplayBuffer):
    def reset(self):
        pass


class NothingAfterReset(Count):
    def __get__(self, buffer, owner=None):
        return False if vars(buffer).get("silent") else super().__get__(buffer, owner)


class RemembersInsideAfterReset(ReplayBuffer):
    """And says that it does not."""

    pos = NothingAfterReset()
    full = NothingAfterReset()

    def reset(self):
        self.silent = True

    def add(self, *args):
        self.silent = False
        super().add(*args)


class LosesItsGenerator(ReplayBuffer):
    def __getstate__(self):
        return {**self.__dict__, "rng": np.random.default_rng(5)}


class LosesItsContents(ReplayBuffer):
    def __getstate__(self):
        return {**self.__dict__, "_store": None}


class SavesLess(ReplayBuffer):
    """To its folder."""

    def load(self, path, **kwargs):
        super().load(path, restore_rng=False)


class ByReward(ReplayBuffer):
    """Draws in proportion to the reward, which it keeps in a dictionary, as documented."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.shares = {}

    def reset(self):
        super().reset()
        self.shares = {}

    def add(self, obs, next_obs, action, reward, done, infos):
        super().add(obs, next_obs, action, reward, done, infos)
        self.shares[self.store.now - 1] = np.abs(reward) + 1

    def _table(self):
        return np.stack([self.shares[i] for i in range(self.store.first, self.store.now)])

    def _draw(self, batch_size):
        table = self._table()
        drawn = self.rng.choice(table.size, batch_size, p=table.ravel() / table.sum())
        return drawn // self.n_envs + self.store.first, drawn % self.n_envs

    def get_extra_state(self):
        return {"table": self._table()}

    def set_extra_state(self, state):
        self.shares = {self.store.first + i: row for i, row in enumerate(state["table"])}


class ForgetsShares(ByReward):
    def set_extra_state(self, state):
        super().set_extra_state({"table": np.ones_like(state["table"])})


class CannotPutBack(ByReward):
    set_extra_state = property()


class KeepsObjects(ByReward):
    def get_extra_state(self):
        return {"table": object()}


class Numberless(ReplayBuffer):
    """Its batches do not say which rows they are of."""

    def update_priorities(self, indices, td_errors):
        self.priorities = indices


class Priorities(ReplayBuffer):
    """Those of transitions that were never sampled are equal, and only these are kept."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.priorities = np.ones((self.buffer_size, self.n_envs))

    def _draw(self, batch_size):
        table = self.priorities[np.arange(self.store.first, self.store.now) % self.buffer_size]
        drawn = self.rng.choice(table.size, batch_size, p=table.ravel() / table.sum())
        return drawn // self.n_envs + self.store.first, drawn % self.n_envs

    def sample_at(self, positions, envs, env=None):
        batch = super().sample_at(positions, envs, env)
        return SimpleNamespace(**batch._asdict(), indices=np.stack([positions, envs]))

    def update_priorities(self, indices, td_errors):
        positions, envs = indices
        self.priorities[positions % self.buffer_size, envs] = np.abs(td_errors) + 0.01


class OtherWeights(ReplayBuffer):
    """Says how much each transition counts, and forgets it."""

    batches = 0

    def sample_at(self, positions, envs, env=None):
        batch = super().sample_at(positions, envs, env)
        self.batches += 1
        return SimpleNamespace(**batch._asdict(), weights=0 * batch.rewards + self.batches)


class NoneToTrainWith(ReplayBuffer):
    def sample(self, batch_size, env=None):
        if batch_size == 8:
            raise AssertionError("no batches of eight")
        return super().sample(batch_size, env)


@pytest.mark.parametrize(
    ("cls", "check", "problem"),
    [
        (LacksDones, "samples_are_like_sb3s", "a sample has no dones"),
        (FlatRewards, "samples_are_like_sb3s", r"rewards have shape \(64,\), not \(64, 1\)"),
        (DoubleActions, "samples_are_like_sb3s", r"actions are torch.float64, not torch.float32"),
        (OneBehind, "what_is_stored_is_sampled", "next_observations are not as stored"),
        (OtherRewards, "what_is_stored_is_sampled", "rewards are not as stored"),
        (ClippedRewards, "what_is_stored_is_sampled", "rewards are not as stored"),
        (PositiveRewards, "what_is_stored_is_sampled", "rewards are not as stored"),
        (FirstActionOnly, "what_is_stored_is_sampled", "actions are not as stored"),
        (NoDiscounts, "samples_are_like_sb3s", r"discounts of one step are 0, not 0\.99"),
        (WrongOnlyAtEnds, "samples_are_like_sb3s", r"discounts of one step are 0\.49, 0\.99, not"),
        (OtherDiscounts, "samples_are_like_sb3s", r"discounts of one step are 0\.5, not 0\.99"),
        (Undiscounted, "samples_are_like_sb3s", "discounts of one step are 1, and algorithms take"),
        (WeightsOfZeros, "samples_are_like_sb3s", "sampled weights are not finite"),
        (FirstHalf, "what_is_stored_is_sampled", r"\d+ of 21 transitions are never sampled"),
        (AllButTheNewest, "what_is_stored_is_sampled", "1 of 21 .* the newest among them"),
        (HerOfAllButTheNewest, "what_is_stored_is_sampled", "1 of 21 .* the newest among them"),
        (AllButTheOldest, "the_oldest_are_overwritten", "1 of 30 .* never sampled, older ones"),
        (FirstEnvOnly, "what_is_stored_is_sampled", r"\d+ of 63 transitions are never sampled"),
        (ForeignGoals, "what_is_stored_is_sampled", "a goal is neither the real one nor"),
        (TimeoutsAreDones, "only_terminations_are_dones", "ran out of time is done"),
        (NothingIsDone, "only_terminations_are_dones", "a step that ended is not done"),
        (NeverForgets, "the_oldest_are_overwritten", r"are \(60, 7, True\)|are \(67"),
        (NeverForgetsInside, "the_oldest_are_overwritten", "never stored, or is too old"),
        (WritesIntoObservations, "arguments_are_left_alone", "add changes an observation"),
        (TakesFromInfos, "arguments_are_left_alone", "add changes an info"),
        (KeepsReferences, "arguments_are_left_alone", "never stored|not as stored"),
        (GivesItsOwn, "samples_are_copies", "not as stored"),
        (DrawsFromNumpy, "global_state_is_untouched", "moves numpy's global generator"),
        (DrawsFromTorch, "global_state_is_untouched", "moves torch's generator"),
        (Unseeded, "seeds_decide", "two buffers with one seed draw differently"),
        (SeededOnce, "seeds_decide", "the seed has no influence"),
        (InOrder, "new_goals_go_to_any", "which transitions get new goals goes by their step"),
        (InOrderOfEnvs, "new_goals_go_to_any", "new goals goes by their environment"),
        (IgnoresVecNormalize, "samples_are_normalised", "observations are not normalised"),
        (NormalisesObservationsOnly, "samples_are_normalised", "rewards are not normalised"),
        (StaysOnTheProcessor, "samples_are_on_the_device", "observations are on cpu"),
        (RemembersAfterReset, "reset_forgets", r"are \(20, 20, False\) after a reset"),
        (RemembersInsideAfterReset, "reset_forgets", "never stored, or is too old"),
        (
            LosesItsGenerator,
            "saved_buffers_go_on",
            "a loaded buffer draws other batches: by pickle",
        ),
        (LosesItsContents, "saved_buffers_go_on", "20 steps saved, 0 loaded"),
        (SavesLess, "saved_buffers_go_on", "a loaded buffer draws other batches: from a check"),
        (ForgetsShares, "saved_buffers_go_on", r"draws other batches: .* get_extra_state\(\)"),
        (CannotPutBack, "saved_buffers_go_on", "no checkpoint can keep it: AttributeError"),
        (KeepsObjects, "saved_buffers_go_on", "no checkpoint can keep it: StateError"),
        (Numberless, "needs_are_what_it_has", "its batches have no indices"),
        (Priorities, "saved_buffers_go_on", "a loaded buffer draws other batches"),
        (OtherWeights, "saved_buffers_go_on", "a loaded buffer draws other batches"),
        (NoneToTrainWith, "stock_models_train", "no batches of eight"),
    ],
)
def test_what_is_broken_is_told(cls, check, problem):
    """By the check meant for it, and so by the kit as a whole."""
    cases = list(buffer_cases(cls))

    def run():
        for case in cases:
            getattr(replay_buffers, check)(case)

    with pytest.raises(AssertionError, match=problem):
        run()
    with pytest.raises(AssertionError, match=f"{cls.__name__} of .* observations, n_envs=[13]: "):
        check_replay_buffer(cls)


def test_every_check_has_a_broken_buffer():
    marks = test_what_is_broken_is_told.pytestmark
    tripped = {values[1] for mark in marks for values in mark.args[1]}
    assert tripped == {check.__name__ for check in replay_buffers.BUFFER_CHECKS}


def test_what_is_no_buffer_is_told():
    with pytest.raises(AssertionError, match="dict is no buffer of SB3's"):
        check_replay_buffer(dict)
    with pytest.raises(AssertionError, match="'pyrl/uniform' is no class: give that of the buffer"):
        check_replay_buffer("pyrl/uniform")


class Prioritised(ReplayBuffer):
    """With what batches lack taken away, and all that they are told forgotten."""

    gives = ("weights", "indices")
    shape = (-1, 1)

    def sample_at(self, positions, envs, env=None):
        batch = super().sample_at(positions, envs, env)
        indices = self.store.slot(positions, envs)
        weights = np.ones(len(indices), np.float32).reshape(self.shape)
        every = {"weights": self.to_torch(weights), "indices": indices}
        return SimpleNamespace(**batch._asdict(), **{name: every[name] for name in self.gives})

    def update_priorities(self, indices, td_errors):
        assert len(indices) == len(td_errors)


class Unweighted(Prioritised):
    gives = ("indices",)


class Flat(Prioritised):
    shape = (-1,)


class Unnumbered(Prioritised):
    gives = ("weights",)


class Plain(ReplayBuffer):
    """Says more than it does."""


BOTH = ("priority-updates", "importance-weights")


@pytest.mark.parametrize(
    ("cls", "needs", "told"),
    [
        (
            Plain,
            BOTH,
            "needs importance-weights, priority-updates, but it has no update_priorities, and its "
            "batches have no weights: see Priorities in docs/plugins.md",
        ),
        (
            Numberless,
            BOTH,
            "needs importance-weights, priority-updates, but its batches have no indices, and its "
            "batches have no weights: see Priorities in docs/plugins.md",
        ),
        (Numberless, (), "its batches have no indices"),
        (Unnumbered, BOTH, "but its batches have no indices: see"),
        (Unweighted, BOTH, "but its batches have no weights: see"),
        (Flat, BOTH, r"weights of a batch have shape \(64,\), not \(64, 1\)"),
    ],
)
def test_buffers_that_need_priorities_have_what_it_takes(cls, needs, told):
    with pytest.raises(AssertionError, match=told):
        check_replay_buffer(cls, needs=needs)


@pytest.mark.parametrize(
    ("cls", "needs"),
    [(Prioritised, BOTH), (Unweighted, BOTH[:1]), (ReplayBuffer, ["env"])],
)
def test_buffers_with_what_they_need_pass(cls, needs):
    check_replay_buffer(cls, needs=needs)

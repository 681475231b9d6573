"""The best policy of a population guides the others."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback

from pyrl_sb3.plugins import SyncContext

Arrays = Mapping[str, NDArray[Any]]

PARAMETER = "actor."


class PopulationSync(BaseCallback):
    """
    Population-guided parallel policy search (Jung 2020, https://arxiv.org/abs/2001.02907).

    At each synchronisation the copy with the highest mean return becomes the guide. Until the next
    one, the others also minimise beta * D(pi, pi_guide), D = ||a - a'||^2 / 2 between the mean
    actions for observations of their own replay buffer. Beta is doubled or halved so that the
    copies stay about ``max(rho * change, d_min)`` from the guide, `change` being how far the last
    guide has moved since it became one.

    Deviations from the paper: the term gets a gradient step of its own after each of the
    algorithm's, not a share in its loss; each copy has its own replay buffer; `change` is measured
    by the guide alone; SAC is guided by mean actions instead of Kullback-Leibler divergence.

    :param context: The copies, and how often they synchronise.
    :param beta: Weight of the guidance at first; kept below 1 / learning rate.
    :param rho: Distance to keep, in multiples of the guide's own change.
    :param d_min: Least distance to keep.
    :param episodes: Number of last episodes whose mean return is compared.
    """

    def __init__(
        self,
        context: SyncContext,
        *,
        beta: float = 1.0,
        rho: float = 2.0,
        d_min: float = 0.02,
        episodes: int = 10,
    ) -> None:
        super().__init__()
        self.group = context.group
        self.interval = context.interval
        self.beta, self.rho, self.d_min, self.episodes = beta, rho, d_min, episodes
        # As arrays, which checkpoints keep, unlike modules; names as they are exchanged.
        self.guide: Arrays | None = None
        self.guide_rank = -1
        self._spreads: list[float] = []

    def _init_callback(self) -> None:
        self._next = self.model.num_timesteps + self.interval
        self._updates = self.model._n_updates

    def _on_step(self) -> bool:
        if self.group.size > 1 and self.num_timesteps >= self._next:
            self._next += self.interval
            self._synchronise()
        return True

    def _on_rollout_start(self) -> None:
        # SB3 has trained since the last rollout, the actor at every multiple of the delay.
        before, self._updates = self._updates, self.model._n_updates
        delay = getattr(self.model, "policy_delay", 1)
        if self.guide is not None and self.guide_rank != self.group.rank:
            steps = self._updates // delay - before // delay
            self._spreads += [self._follow() for _ in range(steps)]

    def _synchronise(self) -> None:
        returns = [episode["r"] for episode in list(self.model.ep_info_buffer)[-self.episodes :]]
        led = self.guide is not None and self.guide_rank == self.group.rank
        numbers = {
            "score": np.array(_mean(returns)),
            "spread": np.array(_mean(self._spreads)),
            "change": np.array(self._distance() if led else math.nan),
        }
        state = self.model.actor.state_dict(prefix=PARAMETER)
        weights = {name: value.cpu().numpy() for name, value in state.items()}
        everybody = self.group.all_gather({**numbers, **weights})
        self._adapt(everybody)
        scores = {rank: float(value["score"]) for rank, value in everybody.items()}
        finished = {rank: score for rank, score in scores.items() if not math.isnan(score)}
        if finished:
            self.guide_rank = max(finished, key=lambda rank: finished[rank])
            self._take_guide(everybody[self.guide_rank])
        self.logger.record("population/beta", self.beta)
        self.logger.record("population/guide", self.guide_rank)

    def _adapt(self, everybody: Mapping[int, Arrays]) -> None:
        """Equation 10 of the paper."""
        spread = _mean(float(value["spread"]) for value in everybody.values())
        change = _mean(float(value["change"]) for value in everybody.values())
        if math.isnan(spread) or math.isnan(change):
            return
        wanted = max(self.rho * change, self.d_min)
        if spread > 1.5 * wanted:
            self.beta = min(2 * self.beta, 1 / self._rate())
        elif spread < wanted / 1.5:
            self.beta /= 2

    def _take_guide(self, value: Arrays) -> None:
        # Copies, since a group may give back what is in the actor.
        self.guide = {k: np.array(v) for k, v in value.items() if k.startswith(PARAMETER)}
        self._spreads = []

    def _follow(self) -> float:
        """One gradient step towards the guide; the distance before it."""
        parameters = [p for p in self.model.actor.parameters() if p.requires_grad]
        distance = self._distance_tensor()
        gradients = th.autograd.grad(distance, parameters, allow_unused=True)
        with th.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:  # SAC's standard deviation has no part in it
                    parameter -= self._rate() * self.beta * gradient
        return distance.item()

    def _distance(self) -> float:
        with th.no_grad():
            return self._distance_tensor().item()

    def _distance_tensor(self) -> th.Tensor:
        model = self.model
        env = model.get_vec_normalize_env()
        observations = model.replay_buffer.sample(model.batch_size, env=env).observations
        mean_actions = _MeanActions(model.actor)
        guide = {k: th.as_tensor(v, device=model.device) for k, v in self.guide.items()}
        with th.no_grad():
            guided = th.func.functional_call(mean_actions, guide, (observations,))
        return 0.5 * (mean_actions(observations) - guided).square().sum(dim=1).mean()

    def _rate(self) -> float:
        return self.model.lr_schedule(self.model._current_progress_remaining)


class _MeanActions(th.nn.Module):
    """An actor's actions without exploration, scaled to [-1, 1], ``(batch, action_dim)``."""

    def __init__(self, actor: Any) -> None:
        super().__init__()
        self.actor = actor

    def forward(self, observations: Any) -> th.Tensor:
        if hasattr(self.actor, "get_action_dist_params"):
            return th.tanh(self.actor.get_action_dist_params(observations)[0])
        return self.actor(observations)


def _mean(numbers: Iterable[float]) -> float:
    """The mean of those that are numbers; without any, NaN."""
    known = [number for number in numbers if not math.isnan(number)]
    return sum(known) / len(known) if known else math.nan

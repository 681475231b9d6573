"""What the gradient steps of DDPG, TD3 and SAC share."""

from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any, ClassVar, Concatenate, NamedTuple, ParamSpec, TypeVar

import torch as th
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from pyrl_sb3 import losses
from pyrl_sb3.algorithms import autograd, explicit
from pyrl_sb3.algorithms.learners import Backend, Temperature
from pyrl_sb3.algorithms.obstacle import find_obstacle
from pyrl_sb3.algorithms.sampling import sample
from pyrl_sb3.algorithms.watch import Watch
from pyrl_sb3.errors import NotANumberError, counted


class Batch(NamedTuple):
    """
    What a step learns from; ``(B, 1)`` unless said.

    :param observations: as the networks read them; as ``next_observations``
    :param actions: ``(B, action_dim)``
    :param gamma: gamma, or gamma**n for each row of n-step returns
    :param weights: importance-sampling weights, of a prioritised replay buffer
    :param indices: which transitions these are, for such a buffer
    :param demos: how many of the rows, the last ones, are demonstrated
    """

    observations: Any
    actions: th.Tensor
    next_observations: Any
    dones: th.Tensor
    rewards: th.Tensor
    gamma: float | th.Tensor
    weights: th.Tensor | None
    indices: Any
    demos: int = 0


def rows_of(observations: Any, rows: slice) -> Any:
    """Some rows of a batch of observations, a tensor or a dict of them."""
    if isinstance(observations, dict):
        return {key: values[rows] for key, values in observations.items()}
    return observations[rows]


_MANY = 10_000  # tensors, of some 500 bytes each


class Metrics:
    """Tensors of one ``train()``, detached, made numbers many at a time."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._values: list[th.Tensor] = []
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, **values: th.Tensor) -> None:
        for name, value in values.items():
            self._names.append(name)
            self._values.append(value.reshape(()) if value.dim() else value)
        if len(self._values) >= _MANY:
            self._sum_up()

    def means(self) -> dict[str, float]:
        """The mean of each, in one transfer from the device, but for a great many."""
        self._sum_up()
        return {name: total / self._counts[name] for name, total in self._sums.items()}

    def _sum_up(self) -> None:
        if not self._values:
            return
        for name, number in zip(self._names, th.stack(self._values).tolist(), strict=True):
            self._sums[name] += number
            self._counts[name] += 1
        self._names.clear()
        self._values.clear()


def update_temperature(
    temperature: Temperature | th.Tensor,
    log_pi: th.Tensor,
    target_entropy: float,
    metrics: Metrics,
) -> th.Tensor:
    """
    A step of the temperature, when it is learned.

    :param temperature: what learns it, or alpha, where that is fixed
    :param log_pi: ``(B, 1)``, of actions that were drawn, or the expectation
    :return: alpha before the step, ``(1,)`` or a scalar
    """
    if isinstance(temperature, th.Tensor):
        metrics.add(ent_coef=temperature)
        return temperature
    log_alpha = temperature.log_alpha.detach()
    alpha = log_alpha.exp()
    dlog_alpha = losses.temperature_gradient(log_pi, target_entropy)
    # The loss is linear in log alpha.
    metrics.add(ent_coef=alpha, ent_coef_loss=log_alpha * dlog_alpha)
    temperature.descend(dlog_alpha)
    return alpha


P = ParamSpec("P")
Self = TypeVar("Self", bound="GradientSteps")


def takes_gradient_steps(
    method: Callable[Concatenate[Self, P], None],
) -> Callable[Concatenate[Self, P], None]:
    """
    A method that may use the learners: the parameters are where these want them, and torch keeps
    no record of operations where no graph is needed, which is a twentieth of the time.
    """

    @wraps(method)
    def prepared(self: Self, /, *args: P.args, **kwargs: P.kwargs) -> None:
        self._ensure_bound()
        with nullcontext() if self._obstacle else th.inference_mode():
            method(self, *args, **kwargs)

    return prepared


class GradientSteps(OffPolicyAlgorithm):
    """
    Training for an SB3 off-policy algorithm; mixed in before it.

    Where the networks are plain perceptrons on the CPU the backward pass is written out
    (`pyrl_sb3.algorithms.explicit`), otherwise autograd does it; the results are the same.
    Which one is decided when the model is set up and printed with ``verbose=1``.
    """

    # Attributes that `_bind` makes, which are not saved; copies and pickles make them anew
    _bound: ClassVar[tuple[str, ...]] = ("_prepare", "_learners", "_watch")

    actor: Any
    _learners: tuple[Any, ...]  # each a `Learner`, or None
    _watch: Watch | None = None

    def _setup_model(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size}: learn from at least one transition")
        super()._setup_model()
        self._bind()
        if self.verbose >= 1:
            print(f"Gradients: {self.gradients}")

    @property
    def gradients(self) -> str:
        """``"explicit"``, or ``"autograd: "`` and what stands in the way of that."""
        return f"autograd: {self._obstacle}" if self._obstacle else "explicit"

    def _bind(self) -> None:
        """Put the parameters and the optimisers' moments where the gradient step wants them."""
        self._obstacle = find_obstacle(self)
        kind: Backend = explicit
        if self._obstacle:
            kind = autograd  # in a line of its own each module is checked
        self._prepare = kind.preparation(self.policy)
        self._learners = self._make_learners(kind)
        self._watch = Watch(self)

    def _ensure_bound(self) -> None:
        """Bind again where something else than training has changed or moved the networks."""
        same = self._watch is not None and self._watch.same(self)
        if not (same and all(learner.attached() for learner in self._learners if learner)):
            self._bind_again()

    def _bind_again(self) -> None:
        before = self.gradients
        self._bind()
        if self.verbose >= 1 and self.gradients != before:
            print(f"Gradients: {self.gradients}")

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles."""
        return {**self.__dict__, **dict.fromkeys(self._bound)}

    def _make_learners(self, kind: Backend) -> tuple[Any, ...]:
        """
        What the gradient step trains, the actor first; ``None`` for what this model does not have.

        :param kind: the module to take the classes from, ``explicit`` or ``autograd``
        """
        raise NotImplementedError

    def _begin_training(self) -> None:
        """Update the learning rates of the learners."""
        if self._obstacle:
            self.policy.set_training_mode(True)
        self._update_learning_rate([learner.optimizer for learner in self._learners if learner])

    def _sample(self, batch_size: int) -> Batch:
        """A batch from the replay buffer, prepared for the networks."""
        assert self.replay_buffer is not None
        # A buffer may keep tensors it makes, and change them later.
        with th.inference_mode(False):
            data = sample(self.replay_buffer, batch_size, self._vec_normalize_env)
        return self._batch(data)

    def _batch(self, data: Any) -> Batch:
        """What a replay buffer drew, prepared for the networks."""
        return Batch(
            self._prepare(data.observations),
            data.actions,
            self._prepare(data.next_observations),
            data.dones,
            data.rewards,
            self.gamma if data.discounts is None else data.discounts,
            getattr(data, "weights", None),
            getattr(data, "indices", None),
        )

    def _update_priorities(self, batch: Batch, q: th.Tensor, y: th.Tensor) -> None:
        """
        Tell a prioritised replay buffer, one with ``update_priorities(indices, td_errors)``, how
        wrong the critics were: ``(B,)``, the mean over the critics of abs(Q - y).
        """
        update = getattr(self.replay_buffer, "update_priorities", None)
        if update is not None:
            update(batch.indices, (q - y).abs().mean(dim=0).flatten().cpu().numpy())

    def _record(self, metrics: Metrics) -> None:
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        means = metrics.means()
        for name, value in means.items():
            self.logger.record(f"train/{name}", value)
        lost = [name for name, value in means.items() if value != value]
        if lost:
            steps = counted(self._n_updates, "gradient step")
            raise NotANumberError(
                f"{lost[0]} is NaN after {steps}: an observation, action, "
                "reward or argument was NaN, or the learning rate is too high"
            )

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_obstacle", *self._bound]

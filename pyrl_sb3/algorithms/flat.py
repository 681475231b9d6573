"""The parameters of equal networks in one tensor, and Adam on it."""

from collections.abc import Iterator, Sequence
from itertools import chain

import torch as th


class FlatParameters:
    """
    One ``(N, size)`` tensor under the parameters of ``N`` networks of the same layout.

    The parameters stay where they are, in their modules, and become views of this tensor: what
    reads or writes them (``state_dict``, ``load_state_dict``, ``Tensor.copy_``) keeps working, and
    one operation on ``data`` updates them all.

    :param networks: for each network, its parameters (leaves) in the order of the layout
    :raises ValueError: when the networks differ in the shapes of their parameters
    """

    def __init__(self, networks: Sequence[Sequence[th.Tensor]]) -> None:
        self.shapes = [p.shape for p in networks[0]]
        if any([p.shape for p in network] != self.shapes for network in networks):
            raise ValueError("the networks of an ensemble must have the same shapes")
        self.parameters = [p for network in networks for p in network]
        rows = [th.cat([p.detach().flatten() for p in network]) for network in networks]
        self.data = th.stack(rows)
        self.grad = th.zeros_like(self.data)
        self._pointers = []
        for parameter, view in zip(self.parameters, self.views(self.data), strict=True):
            parameter.data = view
            self._pointers.append(view.data_ptr())

    def views(self, flat: th.Tensor) -> Iterator[th.Tensor]:
        """Views of ``flat``, which is shaped as ``data``, one for each of ``parameters``."""
        sizes = [shape.numel() for shape in self.shapes]
        for row in flat:
            for part, shape in zip(row.split(sizes), self.shapes, strict=True):
                yield part.view(shape)

    def attached(self) -> bool:
        """
        Whether the parameters still live here: ``.double()``, ``.to(device)`` or an assignment to
        ``.data`` gives them memory of their own.
        """
        return list(map(th.Tensor.data_ptr, self.parameters)) == self._pointers


Lists = tuple[list[th.Tensor], ...]


class FlatAdam:
    """
    The updates of a ``torch.optim.Adam`` on `FlatParameters`, in one fused operation.

    The optimiser itself stays in place, with views of the flat moments as its state: saving,
    loading, learning rates and even its own ``step()`` after a ``backward()`` work as before.

    :param optimizer: Adam over the parameters of ``flat``, with one group
    """

    def __init__(self, flat: FlatParameters, optimizer: th.optim.Optimizer) -> None:
        self.flat = flat
        self.optimizer = optimizer
        self._exp_avg = th.zeros_like(flat.data)
        self._exp_avg_sq = th.zeros_like(flat.data)
        # One element for each parameter, since Adam's own step() counts each of them up.
        self._steps, self._one = th.zeros(len(flat.parameters)), th.ones(1)
        moments = zip(
            self._steps,
            flat.views(self._exp_avg),
            flat.views(self._exp_avg_sq),
            strict=True,
        )
        names = ("step", "exp_avg", "exp_avg_sq")
        states = [dict(zip(names, views, strict=True)) for views in moments]
        for parameter, state in zip(flat.parameters, states, strict=True):
            for name, value in optimizer.state[parameter].items():
                if name in names:
                    state[name].copy_(th.as_tensor(value))
                else:  # of an option that is switched off, and may be on again later
                    state[name] = value
            optimizer.state[parameter] = state
        self._pointers = self._pointers_now()
        # Parameters that Adam's own step() found without a gradient are behind the others.
        self._even = self._are_even()
        self._arguments = self._whole() if self._even else self._one_by_one()

    def _are_even(self) -> bool:
        return len(set(self._steps.tolist())) == 1

    def _whole(self) -> Lists:
        flat = self.flat
        tensors = [flat.data], [flat.grad], [self._exp_avg], [self._exp_avg_sq]
        return *tensors, [], [self._steps[0]]

    def _one_by_one(self) -> Lists:
        flat = self.flat
        every = flat.data, flat.grad, self._exp_avg, self._exp_avg_sq
        data, grad, exp_avg, exp_avg_sq = (list(flat.views(each)) for each in every)
        return data, grad, exp_avg, exp_avg_sq, [], list(self._steps)

    def attached(self) -> bool:
        """
        Whether the optimiser's state still lives here, all of it (loading gives it another, a reset
        of some moments those), with steps that are equal if they were.
        """
        return (
            self.flat.attached()
            and self._pointers_now() == self._pointers
            and self._even == self._are_even()
        )

    def _pointers_now(self) -> list[int | None]:
        """Where the optimiser's state lives; ``None`` for what is no tensor."""
        values = list(chain.from_iterable(map(dict.values, self.optimizer.state.values())))
        try:
            return list(map(th.Tensor.data_ptr, values))
        except TypeError:  # found out sooner than by asking of each
            return [each.data_ptr() if isinstance(each, th.Tensor) else None for each in values]

    def descend(self) -> None:
        """One step, by the gradients in ``flat.grad``."""
        group = self.optimizer.param_groups[0]
        self._steps.add_(self._one)
        # What torch.optim.Adam(fused=True) calls, without the 50 microseconds it adds per call.
        th._fused_adam_(
            *self._arguments,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )

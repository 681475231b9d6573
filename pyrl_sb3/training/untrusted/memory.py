"""A bound on the memory that building networks may take."""

import math
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

_FACTORIES = ("empty", "zeros", "ones", "full", "rand", "randn")


class AllocationLimit(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """
    While entered, PyTorch makes no more than so many tensors of so many bytes.

    A file may ask for layers of any width; whoever built them to compare them with the weights in
    the file would run out of memory first.

    Args:
        tensors: that may be made while entered.
        size: of all of them, bytes.

    Raises:
        MemoryError: instead of the allocation.
    """

    def __init__(self, tensors: int, size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tensors, self.size = tensors, size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in _FACTORIES and args:
            self.tensors -= 1
            self.size -= 4 * math.prod(args[0])
            if min(self.tensors, self.size) < 0:
                raise MemoryError("its networks would be larger than the weights in it")
        return func(*args, **(kwargs or {}))

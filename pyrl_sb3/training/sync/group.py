"""The copies in processes of their own, which exchange arrays by torch.distributed."""

import os
import zlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import torch as th
import torch.distributed as dist
from numpy.typing import NDArray
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore
from torch.distributed.rendezvous import rendezvous

from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.sync.state import Arrays, LayoutError, layout

_HERE, _STOP, _BYTES, _LAYOUT = range(4)
_KEY = "pyrl_sb3/folder"
_PATIENCE = timedelta(hours=1)  # for a copy that takes longer than the others


def in_torchrun() -> bool:
    """Tell whether this process is one of several that torchrun or the like has started."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


class DistributedGroup:
    """
    The processes of the copies, this one among them; fulfils `pyrl_sb3.plugins.SeedGroup`.

    A copy that has ended is missing from what the others get. It answers their exchanges in
    `leave`, which returns when all have ended. A copy that is killed breaks the exchange in all
    others, whose launcher is to start all of them again.

    Attributes:
        rank: of this copy, from 0.
        size: of the group, those that have ended included.
        stop_asked: what this copy tells the others; 0, or the number of a signal.
        left: whether this copy has ended.
        latest: ranks of the copies that took part in the last exchange, once this one has left.
        before_waiting: what this copy does when it has left and others go on, which wait for it.
        stop: the greatest `stop_asked` of any copy at the last exchange, the same in all of them.
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.stop_asked = 0
        self.stop = 0
        self.left = False
        self.latest: list[int] = []
        self.before_waiting: Callable[[], None] | None = None
        self._device = th.device("cuda" if dist.get_backend() == "nccl" else "cpu")

    @classmethod
    def of_torchrun(cls) -> "DistributedGroup":
        """
        Join the processes that torchrun has started: over gloo on CPUs, nccl where there are GPUs.

        Raises:
            InputError: this process was not started by torchrun.
        """
        if not dist.is_initialized():
            if not in_torchrun():
                raise InputError("there are no copies: start with torchrun --nproc-per-node 4 ...")
            local = int(os.environ.get("LOCAL_RANK", "0"))
            on_gpus = th.cuda.device_count() > local
            if on_gpus:
                th.cuda.set_device(local)
            store, rank, size = next(rendezvous("env://", timeout=_PATIENCE))
            dist.init_process_group(
                "nccl" if on_gpus else "gloo",
                store=PrefixStore(f"pyrl_sb3/{_attempt(store, rank)}", store),
                rank=rank,
                world_size=size,
                timeout=_PATIENCE,
            )
        return cls()

    def __enter__(self) -> "DistributedGroup":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Leave, unless through an error, after which the others may not come to exchange."""
        if error is None:
            self.leave()
        if dist.is_initialized():
            dist.destroy_process_group()

    def all_gather(self, value: Arrays) -> dict[int, Arrays]:
        """
        Exchange arrays with all copies that have not ended.

        Raises:
            LayoutError: copies exchange arrays of different names, shapes or types.
            RuntimeError: a copy was killed.
        """
        self.left = False
        content = b"".join(np.ascontiguousarray(array).tobytes() for array in value.values())
        crc = zlib.crc32(layout(value).encode())
        flags = self._flags(1, self.stop_asked, len(content), crc)
        here = self._here(flags)
        self.stop = int(np.max(flags[:, _STOP]))
        sent = self._bytes(np.frombuffer(content, np.uint8), int(np.max(flags[:, _BYTES])))
        if len(set(flags[here, _LAYOUT].tolist())) > 1:
            raise LayoutError
        return {rank: _unpacked(sent[rank], value) for rank in here}

    def leave(self) -> None:
        """Take no further part; return when all copies have left."""
        while not self.left:
            flags = self._flags(0, self.stop_asked, 0, 0)
            self.left = not self._here(flags)
            if self.left:
                return
            do, self.before_waiting = self.before_waiting, None
            if do:
                do()
            self._bytes(np.empty(0, np.uint8), int(np.max(flags[:, _BYTES])))

    def _here(self, flags: NDArray[np.int64]) -> list[int]:
        """The ranks that take part in an exchange; the last that had any are noted."""
        here: list[int] = np.flatnonzero(flags[:, _HERE]).tolist()
        self.latest = here or self.latest
        return here

    def broadcast_text(self, text: str) -> str:
        """Return the text of the copy of rank 0, at most 4096 bytes in UTF-8."""
        room = np.zeros(4096, np.uint8)
        content = np.frombuffer(text.encode(), np.uint8)
        room[: len(content)] = content
        said = self.all_gather({"text": room})
        return bytes(said[min(said)]["text"]).rstrip(b"\0").decode()

    def kept(self) -> str | None:
        """Return what `keep` was given last, also by an earlier start of this job."""
        store = self._launchers_store()
        return store.get(_KEY).decode() if store.check([_KEY]) else None

    def keep(self, text: str) -> None:
        """Leave a text with the launcher, which outlives the copies."""
        self._launchers_store().set(_KEY, text)

    @staticmethod
    def meeting_place(address: str) -> tuple[Store, dict[str, str]]:
        """
        Return a store in this process where copies meet, and what is to be in their environment
        besides `RANK` and `WORLD_SIZE`; it outlives copies that are started again. They reach this
        machine at `address`.
        """
        store = TCPStore(address, 0, is_master=True, wait_for_workers=False)
        return store, {
            "MASTER_ADDR": address,
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }

    def _launchers_store(self) -> TCPStore:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return TCPStore(host, port, is_master=False, wait_for_workers=False)

    @staticmethod
    def is_broken(error: RuntimeError) -> bool:
        """Tell whether an error is that of an exchange which a copy did not come to."""
        text = str(error).lower()
        return isinstance(error, dist.DistError) or any(word in text for word in ("gloo", "nccl"))

    def _flags(self, *flags: int) -> NDArray[np.int64]:
        """The flags of all copies: ``(size, 4)``."""
        return self._gathered(th.tensor(flags, dtype=th.int64)).numpy()

    def _bytes(self, content: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
        """The contents of all copies, filled up: ``(size, length)``."""
        room = th.zeros(length, dtype=th.uint8)
        room[: len(content)] = th.from_numpy(content.copy())
        return self._gathered(room).numpy()

    def _gathered(self, tensor: th.Tensor) -> th.Tensor:
        mine = tensor.to(self._device)
        everybody = [th.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(everybody, mine)
        return th.stack(everybody).cpu()


def _attempt(store: Store, rank: int) -> int:
    """
    Return how often these copies were started before; all of them agree.

    The elastic agent's store outlives copies that are started again, and so do the addresses that
    dead ones have left there. A machine whose copies were stopped for another machine's counts no
    restart, so each copy's starts are counted in the store as well.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return 0  # a new store for each start
    starts = store.add(f"pyrl_sb3/starts/{rank}", 1)
    return max(int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")), starts - 1)


def _unpacked(content: NDArray[np.uint8], like: Arrays) -> dict[str, NDArray[Any]]:
    arrays, start = {}, 0
    for name, array in like.items():
        array = np.asarray(array)
        part = content[start : start + array.nbytes].tobytes()
        arrays[name] = np.frombuffer(part, array.dtype).reshape(array.shape).copy()
        start += array.nbytes
    return arrays

"""Which episode a transition belongs to, and what is known once per episode."""

from itertools import pairwise
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

_UP_TO = np.uint64(2**64 - 1) >> np.arange(63, -1, -1, dtype=np.uint64)  # bits 0..i set

SPARE = 16  # rows of an `EpisodeTable` that make it seldom that some must be freed


class StartBits:
    """Episode numbers of transitions: rank over one bit per transition (Jacobson 1989,
    https://doi.org/10.1109/SFCS.1989.63533).

    A bit says "an episode starts here"; every 64 positions a counter says how many started before.
    A query costs two reads however much is stored; storage is a quarter of a byte per transition.
    Words follow absolute time, so that no word mixes the newest positions with the oldest.
    """

    def __init__(self, slots: int, n_envs: int) -> None:
        self.n_envs = n_envs
        # Bits and counts lie side by side, because they are read together.
        self._pairs = np.zeros((slots // 64 + 2, n_envs, 2), np.uint64)
        self._turn = 0  # times around, in words: of the newest position

    @property
    def words(self) -> Array:
        """64 bits each, `(words, n_envs)`: position `64 i + j` has bit `j` of a word `i`."""
        return self._pairs[:, :, 0]

    @property
    def before(self) -> Ints:
        """Episodes begun before each word, `(words, n_envs)`."""
        return self._pairs[:, :, 1].view(np.int64)

    def turn_to(self, position: int) -> None:
        """Make this position the newest."""
        word = position >> 6
        self._turn = word - word % len(self._pairs)

    def push(self, position: int, starts: Array, counts: Ints) -> None:
        """Record for every environment whether an episode starts at `position`;
        `counts` are the episodes begun so far, those included.
        """
        word, bit = divmod(position, 64)
        self.turn_to(position)
        pairs = self._pairs[word - self._turn]
        if bit == 0:
            pairs[:, 0] = 0
            pairs[:, 1] = counts - starts
        np.bitwise_or(pairs[:, 0], np.uint64(1 << bit), out=pairs[:, 0], where=starts)

    def clear(self, position: int) -> None:
        """Forget what was recorded for the newest position."""
        word, bit = divmod(position, 64)
        words = self.words[word % len(self._pairs)]
        words &= ~np.uint64(1 << bit)

    def numbers(self, positions: Ints, envs: Ints) -> Ints:
        """The number, counted from 0 in each environment, of the episode at each position."""
        return self.following(positions, envs) - 1

    def following(self, positions: Ints, envs: Ints) -> Ints:
        """The number of the episode after the one at each position."""
        words = positions >> 6
        words -= self._turn
        words = words if self.n_envs == 1 else words * self.n_envs + envs
        # Wrapping is quicker than taking remainders, when it is not far around.
        bits, before = self._pairs.reshape(-1, 2).take(words, axis=0, mode="wrap").T
        before += np.bitwise_count(bits & _UP_TO.take(positions & 63))
        return before.view(np.int64)


class EpisodeTable:
    """Rows of facts about episodes, first in, first out; every environment has as many rows.

    `fields[name]` has shape `(rows * n_envs, ...)`; episode `number` of environment `env` is in
    row `number % rows * n_envs + env`. Rows of forgotten episodes are used again. The table grows
    to what it is expected to need, because it counts in the bytes per transition, and by as much
    again at a time, because growing copies it.
    """

    def __init__(self, n_envs: int) -> None:
        self.n_envs = n_envs
        self.rows = 16
        self.envs = np.arange(n_envs)
        self.counts = np.zeros(n_envs, np.int64)  # episodes begun
        self.oldest = np.zeros(n_envs, np.int64)  # episodes that may be overwritten
        self.fields: dict[str, Array] = {}
        self.add_field("start", (), np.int64)
        self.add_field("end", (), np.int8)

    def __getstate__(self) -> dict[str, Any]:
        """Without the rows that no episode has been in yet."""
        used = min(max(self.counts.tolist()) + 1, self.rows)
        fields = {name: field[: used * self.n_envs] for name, field in self.fields.items()}
        return {**self.__dict__, "rows": used, "fields": fields}

    def add_field(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        """Make room for one more fact of this shape per episode."""
        self.fields[name] = np.zeros((self.rows * self.n_envs, *shape), dtype)

    def row(self, numbers: Ints, envs: Ints) -> Ints:
        """Rows of the fields that hold these episodes."""
        rows = numbers % self.rows
        return rows if self.n_envs == 1 else rows * self.n_envs + envs

    def near(self, numbers: Ints, envs: Ints) -> Ints:
        """The same up to whole turns around the table, which is quicker: the newest are within one.

        Take them with `mode="wrap"`.
        """
        if self.n_envs > 1:  # of which one may be many turns ahead of another
            return self.row(numbers, envs)
        return numbers - self.counts.item(0) // self.rows * self.rows

    def starts(self, rows: Ints) -> Ints:
        """First positions of the episodes in these rows, perhaps overwritten by now."""
        return self.fields["start"].take(rows, mode="wrap")

    def newest(self) -> Ints:
        """Rows of each environment's newest episode, shape `(n_envs,)`."""
        return self.row(self.counts - 1, self.envs)

    def full(self) -> bool:
        """Whether another episode may overwrite one; the row after the newest is kept free."""
        return max((self.counts - self.oldest).tolist()) + 2 > self.rows

    def forget(self, oldest: Ints, expected: int, most: int) -> None:
        """Free the rows before these episode numbers, and grow if that is not enough.

        :param expected: episodes that there will be; only guessed, so the rows at most treble
        :param most: and as many as there can be, with two rows that are kept free
        """
        self.oldest = oldest
        if not self.full():
            return
        wanted = expected + 2 * isqrt(expected) + SPARE  # the lengths of episodes are random
        while wanted > 3 * self.rows:  # halves: the last growth then starts from one, not from most
            wanted = (wanted + 1) // 2
        self._grow(min(max(wanted, self.rows + self.rows // 64 + SPARE), most + SPARE))

    def _grow(self, rows: int) -> None:
        grown = {}
        for name, field in self.fields.items():
            grown[name] = np.zeros((rows * self.n_envs, *field.shape[1:]), field.dtype)
            old, new = (x.reshape(-1, self.n_envs, *x.shape[1:]) for x in (field, grown[name]))
            for env, (low, high) in enumerate(zip(self.oldest, self.counts + 1, strict=True)):
                turns = high - high % self.rows, high - high % rows  # where either starts anew
                edges = sorted({low, high, *(turn for turn in turns if turn > low)})
                for start, stop in pairwise(edges):
                    at, to, n = start % self.rows, start % rows, stop - start
                    new[to : to + n, env] = old[at : at + n, env]
        self.rows, self.fields = rows, grown  # at once, since an interrupted step is undone

"""A process killed at any moment of a save loses that save and nothing else."""

import hashlib
import os
import signal
import time

import numpy as np
import pytest
from gymnasium import spaces

from pyrl_sb3.buffers import ReplayBuffer

KILLS = 100


def make():
    space = spaces.Box(-np.inf, np.inf, (20,))
    return ReplayBuffer(400, space, spaces.Box(-1, 1, (2,)))


def digest(buffer):
    """What is stored, as a hash; the order counts."""
    store = buffer.store
    positions = np.arange(store.first, store.now)
    batch = buffer.sample_at(positions, np.zeros_like(positions))[:5]
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in batch)).digest()


def save_for_ever(folder, pipe, seed):
    """Load, then add and save in turns; every state is announced before it is saved."""
    rng, buffer = np.random.default_rng(seed), make()
    buffer.load(folder)
    while True:
        for _ in range(rng.integers(0, 60)):
            obs, after = rng.random((2, 1, 20))
            done = rng.random(1) < 0.05
            info = [{"TimeLimit.truncated": True}]
            buffer.add(obs, after, rng.random((1, 2)), rng.random(1), done, info)
        os.write(pipe, digest(buffer))
        buffer.save(folder)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # torch has threads
def test_killed_at_random_moments(tmp_path):
    buffer, rng = make(), np.random.default_rng(0)
    buffer.save(tmp_path)
    before, saves, interrupted = digest(buffer), 0, 0
    for kill in range(KILLS):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                save_for_ever(tmp_path, writer, kill)
            finally:
                os._exit(1)
        os.close(writer)
        announced = [before, os.read(reader, 32)]  # it has begun
        for _ in range(rng.integers(1, 4)):
            begin = time.monotonic()
            announced.append(os.read(reader, 32))
        # Somewhere in the next turn, whatever the machine's speed.
        time.sleep(rng.uniform(0, time.monotonic() - begin))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        while state := os.read(reader, 32):
            announced.append(state)
        os.close(reader)
        saves += len(announced) - 2
        again = make()
        again.load(tmp_path)
        # All saves but the last one announced were over.
        assert digest(again) in announced[-2:]
        before = digest(again)
        named = (tmp_path / "header.json").read_text()
        interrupted += any(
            file.name not in named for file in tmp_path.iterdir() if file.suffix != ".json"
        )
    assert saves > KILLS
    assert interrupted > KILLS // 10  # kills did hit saves half way

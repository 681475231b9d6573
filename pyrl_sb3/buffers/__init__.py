"""Replay buffers on shared episode storage."""

from pyrl_sb3.buffers.her import HerReplayBuffer
from pyrl_sb3.buffers.replay import DictReplayBuffer, ReplayBuffer
from pyrl_sb3.buffers.tap import keep_raw_terminals

__all__ = ["DictReplayBuffer", "HerReplayBuffer", "ReplayBuffer", "keep_raw_terminals"]

"""Arrays and plain values from files of strangers: nothing in them is run."""

from pyrl_sb3.plaindata.arrays import NUMBERS, NUMBERS_AND_OBJECTS
from pyrl_sb3.plaindata.budget import Budget, RefusedError
from pyrl_sb3.plaindata.npy import announced, read_npy
from pyrl_sb3.plaindata.reader import Reader
from pyrl_sb3.plaindata.zips import unpack

__all__ = [
    "NUMBERS",
    "NUMBERS_AND_OBJECTS",
    "Budget",
    "Reader",
    "RefusedError",
    "announced",
    "read_npy",
    "unpack",
]

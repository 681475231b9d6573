"""Files of strangers: archives with bounds, arrays without pickle, pickles that run nothing."""

from pyrl_sb3.training.untrusted.archives import (
    check_archive,
    check_contents,
    check_stored,
    read_arrays,
    read_member,
)
from pyrl_sb3.training.untrusted.memory import AllocationLimit
from pyrl_sb3.training.untrusted.pickles import Captured, read_pickle
from pyrl_sb3.training.untrusted.tensors import read_tensors

__all__ = [
    "AllocationLimit",
    "Captured",
    "check_archive",
    "check_contents",
    "check_stored",
    "read_arrays",
    "read_member",
    "read_pickle",
    "read_tensors",
]

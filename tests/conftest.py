"""What holds for every test: one thread per process, since the test processes share the cores."""

import gc
import os
import tempfile

# Before torch is imported; the commands that tests start inherit it.
os.environ["OMP_NUM_THREADS"] = "1"
# Trainings that log nothing make a folder for it all the same: this one, and not one each.
os.environ.setdefault("SB3_LOGDIR", os.path.join(tempfile.gettempdir(), "pyrl-sb3-tests"))


def pytest_collection_finish():
    """Full garbage collections look no more at what is imported by now: a seventh of all time."""
    import torch._dynamo  # noqa: F401  # which the first optimizer imports

    gc.collect()
    gc.freeze()

"""What holds for every test: one thread per process, since the test processes share the cores."""

import os

# Before torch is imported; the commands that tests start inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

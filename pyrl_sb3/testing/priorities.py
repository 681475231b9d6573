"""Whether a replay buffer has what it takes to be told how wrong the critics were."""

from pyrl_sb3.testing.batches import BATCH
from pyrl_sb3.testing.buffer_case import BufferCase
from pyrl_sb3.testing.require import require


def needs_are_what_it_has(case: BufferCase) -> None:
    """A buffer with priorities can be told of them, and its batches say which rows they are of."""
    buffer, _ = case.filled()
    batch = buffer.sample(BATCH)
    told = hasattr(buffer, "update_priorities")
    weighs = "importance-weights" in case.needs
    weights, indices = (getattr(batch, name, None) for name in ("weights", "indices"))
    lacks = []
    if "priority-updates" in case.needs and not told:
        lacks.append("it has no update_priorities")
    if told and indices is None:
        lacks.append("its batches have no indices")
    if weighs and weights is None:
        lacks.append("its batches have no weights")
    needs = ", ".join(sorted(case.needs)) or "priority-updates"
    advice = "see Priorities in docs/plugins.md"
    require(not lacks, f"needs {needs}, but {', and '.join(lacks)}: {advice}")
    if weights is not None:
        shape = tuple(weights.shape)
        require(shape == (BATCH, 1), f"weights of a batch have shape {shape}, not {(BATCH, 1)}")
    if indices is not None:
        require(len(indices) == BATCH, f"a batch of {BATCH} rows has {len(indices)} indices")

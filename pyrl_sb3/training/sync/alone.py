"""A group of one copy."""

from pyrl_sb3.training.sync.state import Arrays


class Alone:
    """
    Nobody else; fulfils `pyrl_sb3.plugins.SeedGroup`.

    A callback that is made of it shows whether one can be made, before there are any copies.
    """

    rank, size = 0, 1

    def all_gather(self, value: Arrays) -> dict[int, Arrays]:
        """Return what this copy says."""
        return {0: value}

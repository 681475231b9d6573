"""Population-guided parallel policy search."""

from pyrl_population_sync.callback import PopulationSync

__all__ = ["PopulationSync"]

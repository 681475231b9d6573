"""The one agent that stands for all copies, as a model in the group's folder."""

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from pyrl_sb3.training.folders import MODEL, copy
from pyrl_sb3.training.hyperparams import CONFIG
from pyrl_sb3.training.models import save_model
from pyrl_sb3.training.seeds import SeedGroup
from pyrl_sb3.training.sync.callback import SeedSyncCallback
from pyrl_sb3.training.sync.group import DistributedGroup
from pyrl_sb3.training.sync.state import read_state, write_state


class SaveMaster(BaseCallback):
    """
    Writes the one agent that stands for all copies into the group's folder, unless the copies are
    independent.

    The first of the copies that were synchronised last does: those that a callback ended before
    know nothing of what came later. It does so when the training of all has ended, before its own
    end is on the disk: a job that dies in between goes on from an earlier checkpoint, and comes to
    it again. Callbacks other than `SeedSyncCallback` know of no such agent: there it is that copy's
    own. `sync`, which synchronises this copy, comes before this in the list of callbacks.
    """

    model: OffPolicyAlgorithm
    keeps_state = False

    def __init__(self, seeds: SeedGroup, copies: DistributedGroup, sync: BaseCallback) -> None:
        super().__init__()
        self.seeds = seeds
        self.copies = copies
        self.sync = sync

    def _on_training_start(self) -> None:
        self._begun = self.model.num_timesteps

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.copies.leave()
        # Without a step only an evaluation, say, was left to do: the model is there already.
        trained = self.model.num_timesteps > self._begun
        if trained and self.seeds.couples_seeds and self.copies.rank == self.copies.latest[0]:
            self._write()

    def _write(self) -> None:
        own = read_state(self.model)
        if isinstance(self.sync, SeedSyncCallback) and self.sync.master:
            write_state(self.model, self.sync.master)
        save_model(self.model, self.seeds.folder / MODEL)
        write_state(self.model, own)
        config = self.seeds.run(self.seeds.seeds[self.copies.rank]) / CONFIG
        copy(config, self.seeds.folder / CONFIG)

"""The one agent that stands for all copies, as a model in the group's folder."""

import logging
import shutil
from functools import partial

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from pyrl_sb3.training.folders import MODEL, write_whole
from pyrl_sb3.training.hyperparams import CONFIG
from pyrl_sb3.training.models import save_model
from pyrl_sb3.training.seeds import SeedGroup
from pyrl_sb3.training.sync.callback import SeedSyncCallback
from pyrl_sb3.training.sync.state import read_state, write_state

log = logging.getLogger("pyrl_sb3")


class SaveMaster(BaseCallback):
    """
    Writes the one agent that stands for all copies into the group's folder.

    It does so when the training of the first copy ends, before that copy's own end is on the disk:
    a job that dies in between goes on from an earlier checkpoint, and comes to it again.

    Args:
        seeds: the group.
        sync: what has synchronised this copy, which has ended its training already.
    """

    model: OffPolicyAlgorithm
    keeps_state = False

    def __init__(self, seeds: SeedGroup, sync: BaseCallback) -> None:
        super().__init__()
        self.seeds = seeds
        self.sync = sync

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        own = read_state(self.model)
        if isinstance(self.sync, SeedSyncCallback) and self.sync.master:
            write_state(self.model, self.sync.master)
        save_model(self.model, self.seeds.folder / MODEL)
        write_state(self.model, own)
        config = self.seeds.run(self.seeds.seeds[0]) / CONFIG
        write_whole(self.seeds.folder / CONFIG, partial(shutil.copyfile, config))
        log.info("all copies as one: %s", self.seeds.folder / MODEL)

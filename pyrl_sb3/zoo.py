"""
RL Baselines3 Zoo with the algorithms from here, after one import::

    import pyrl_sb3.zoo
    from rl_zoo3.train import train  # or rl_zoo3.enjoy, ...

    if __name__ == "__main__":  # --vec-env subproc imports the file again
        train()  # python train.py --algo sac --env Pendulum-v1 --optimize

``rl_zoo3.ALGOS`` then has this package's DDPG, TD3 and SAC under their names, so that the zoo's
hyperparameters and its samplers for tuning hold for them. TQC and CrossQ are sb3-contrib's there as
they are here. ``replay_buffer_class: HerReplayBuffer`` in its configs is the buffer from here.

:raises ModuleNotFoundError: rl_zoo3 is not installed.
"""

from importlib import import_module

from pyrl_sb3 import DDPG, SAC, TD3, HerReplayBuffer

try:
    _zoo = import_module("rl_zoo3")
    _manager = import_module("rl_zoo3.exp_manager")
except ModuleNotFoundError as error:
    if error.name != "rl_zoo3":
        raise
    raise ModuleNotFoundError(
        "pyrl_sb3.zoo needs rl_zoo3: pip install rl-zoo3", name="rl_zoo3"
    ) from error

# In place: the zoo's modules share this dictionary.
_zoo.ALGOS.update(ddpg=DDPG, td3=TD3, sac=SAC)
# The name in configs is looked up there, and hindsight is tuned only where the class is this one.
_manager.HerReplayBuffer = HerReplayBuffer  # type: ignore[attr-defined]

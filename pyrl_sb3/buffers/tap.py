"""Raw terminal observations under VecNormalize."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from pyrl_sb3.buffers.columns import Obs

RAW_TERMINAL = "raw_terminal_observation"


def keep_raw_terminals(env: VecEnv | None) -> None:
    """Let the VecNormalize in `env`, if there is one, keep terminal observations as they were.

    It normalises and clips them in place, so that what SB3 computes back from them is off wherever
    clipping took effect. Here they are also put into the info dict as `raw_terminal_observation`
    on the way into VecNormalize. The environment it wraps is changed in place: a wrapper between
    them would put the training and evaluation environments out of step, which
    `sync_envs_normalization` refuses.
    """
    normalize = None if env is None else unwrap_vec_normalize(env)
    if normalize is None or getattr(normalize.venv.step_wait, "func", None) is _keeping:
        return
    # A partial of a bound method: copies of the environment get one of their own.
    normalize.venv.step_wait = partial(_keeping, normalize.venv.step_wait)  # type: ignore[method-assign]


def _keeping(step_wait: Callable[[], VecEnvStepReturn]) -> VecEnvStepReturn:
    obs, rewards, dones, infos = step_wait()
    for index in np.flatnonzero(dones):
        if "terminal_observation" in infos[index]:
            infos[index][RAW_TERMINAL] = infos[index]["terminal_observation"]
    return obs, rewards, dones, infos


def with_raw_terminals(obs: Obs, raw: Sequence[Obs | None]) -> Obs:
    """Observations with those of some environments replaced; nothing given is changed."""
    envs = [env for env, values in enumerate(raw) if values is not None]
    if not envs:
        return obs
    copies = {key: np.array(value) for key, value in obs.items()}
    for env in envs:
        for key, value in (raw[env] or {}).items():
            copies[key][env] = value
    return copies

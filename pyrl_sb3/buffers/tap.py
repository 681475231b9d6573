"""Raw terminal observations under VecNormalize."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from pyrl_sb3.buffers.columns import Obs
from pyrl_sb3.buffers.fields import WHOLE

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


def with_raw_terminals(obs: Obs, infos: Sequence[dict[str, Any]]) -> Obs:
    """Observations with those replaced that infos have; nothing given is changed."""
    raw = {env: info[RAW_TERMINAL] for env, info in enumerate(infos) if RAW_TERMINAL in info}
    if not raw:
        return obs
    copies = {key: np.array(value) for key, value in obs.items()}
    for env, values in raw.items():
        by_key = values if isinstance(values, Mapping) else {WHOLE: values}
        for key, value in by_key.items():
            copies[key][env] = value
    return copies

"""Trainings that begin with an agent that another one has trained."""

import logging
from pathlib import Path

import torch as th
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from pyrl_sb3.errors import counted, without_addresses
from pyrl_sb3.training.agents import NamedAgent
from pyrl_sb3.training.command_line import quoted
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.folders import find_model, with_zip, zoo_settings
from pyrl_sb3.training.hyperparams import CONFIG
from pyrl_sb3.training.loading import complaint, load_model, saved_temperature
from pyrl_sb3.training.normalization import adopt_statistics
from pyrl_sb3.training.trial import run_meant, run_of
from pyrl_sb3.training.unwritable import find_modules_of

log = logging.getLogger("pyrl_sb3")


def trained_model(path: Path, env_id: str) -> Path:
    """Return the file of the model that a path means, as in tests; InputError if there is none."""
    try:
        return find_model(run_meant(path, env_id), env_id, None).absolute()
    except InputError as error:
        raise InputError(f"--trained-agent: {error}") from error


def may_mean(path: Path, model: Path) -> bool:
    """Tell whether a path, given again, can mean the model that was found by it."""
    return model.resolve().is_relative_to(with_zip(path).resolve())


class TrainedAgent:
    """
    A saved agent, read before the model is built that is to begin as it: to build networks draws
    random numbers, and the model's own seed comes after.

    Args:
        path: of its model.
        agent: the algorithm, which must be that of the model.
        env: to learn in. Where observations are normalised, those statistics are adopted with which
            the agent has learned.
        device: of the model.
        trust: run what the files hold.

    Raises:
        InputError: as `load_model` and `adopt_statistics`.
        MissingPluginError: its policy is of a plugin that is not installed.
    """

    def __init__(
        self, path: Path, agent: NamedAgent, env: VecEnv, device: str, *, trust: bool
    ) -> None:
        self.path = path
        if trust:
            find_modules_of(run_of(path))
        self._model = load_model(path, agent, env, device, trust=trust, command="train")
        self._log_alpha = saved_temperature(path)
        adopt_statistics(path, env, trust=trust)

    def hand_over(self, model: OffPolicyAlgorithm, source: str) -> None:
        """
        Give a new model the networks, targets included, and the temperature, where it learns one.
        Its optimisers begin anew.

        Args:
            model: of the same algorithm.
            source: what its networks are as, for messages.

        Raises:
            InputError: its networks are others.
        """
        try:
            model.policy.load_state_dict(self._model.policy.state_dict())
        except RuntimeError as error:  # other names or shapes
            raise self._unfit(source, complaint(error)) from error
        theirs, ours = _layers(self._model), _layers(model)
        if theirs != ours:
            others = f"it has {_named(theirs - ours)}, not {_named(ours - theirs)}"
            raise self._unfit(source, others)
        learned = getattr(model, "log_ent_coef", None)
        if learned is not None and self._log_alpha is not None:
            with th.no_grad():
                learned.copy_(self._log_alpha)
        steps = counted(self._model.num_timesteps, "step")
        log.info("begins with the agent of %s, trained for %s", self.path, steps)

    def _unfit(self, source: str, why: str) -> InputError:
        folder = self.path.parent
        configs = [place / CONFIG for place in (folder, zoo_settings(folder)) if place]
        own = [f"; --config {quoted(each)} is its own" for each in configs if each.is_file()]
        return InputError(f"{self.path}, for {source}: {why}{''.join(own[:1])}")


def _layers(model: OffPolicyAlgorithm) -> set[str]:
    """Return the layers of a model's networks in words: also those that have no weights."""
    parts = (part for part in model.policy.modules() if not any(part.children()))
    return {without_addresses(repr(part)) for part in parts}


def _named(layers: set[str]) -> str:
    return " and ".join(sorted(layers)) or "none of them"

"""Policies that are asked for by name."""

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy

from pyrl_sb3.networks import EXTRACTORS, with_named_extractor
from pyrl_sb3.policies import LeanActing


def by_every_name(policy: type[BasePolicy]) -> dict[str, type[BasePolicy]]:
    """The ``policy_aliases`` of an algorithm, one policy for observations of all kinds."""
    return dict.fromkeys(EXTRACTORS, policy)


class NamedPolicies(OffPolicyAlgorithm):
    """
    The names of policies for an SB3 off-policy algorithm whose policies are from here, each one
    class for observations of all kinds; mixed in before it.

    A name means what it means in SB3: MlpPolicy flattens images, CnnPolicy and MultiInputPolicy
    refuse what is no image and no dict. Classes choose by the observations.
    """

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        self._policy_name = policy_name
        return super()._get_policy_from_name(policy_name)

    def _setup_model(self) -> None:
        # Only once: what it stands for is saved with the policy's arguments, which SB3 loads too.
        name = vars(self).pop("_policy_name", None)
        if name is not None and issubclass(self.policy_class, LeanActing):
            self.policy_kwargs = with_named_extractor(
                name, self.policy_kwargs, self.observation_space
            )
        super()._setup_model()

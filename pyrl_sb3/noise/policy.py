"""Noise in the place of a stochastic policy's own."""

from typing import NoReturn

from stable_baselines3.common.noise import ActionNoise

from pyrl_sb3.noise.action import Array, Context, Standalone, require_plain


class PolicyNoise(Standalone):
    """
    Another process, which takes the place of the independent Gaussian noise that a stochastic
    policy draws in the environment: a = tanh(mu + sigma noise) in SAC. Training goes on drawing
    independently for each row of a batch, and never from here. With coloured noise this is the
    exploration of Eberhard 2023 (https://openreview.net/forum?id=hQ9V5QN27eS).

    :param noise: of unit variance, so that sigma stays the standard deviation.
    :raises ValueError: for noise that takes the place of actions.
    """

    def __init__(self, noise: ActionNoise) -> None:
        super().__init__()
        require_plain("policy", noise)
        self.noise = noise

    def reset(self) -> None:
        """Start an episode."""
        self.noise.reset()

    def draw(self) -> Array:
        """The noise of one step, in standard deviations of the policy."""
        return self.noise()

    def __call__(self) -> NoReturn:
        """:raises TypeError: it is not to be added to actions."""
        raise TypeError(
            "policy noise takes the place of the policy's own: use it with pyrl_sb3.SAC, "
            "which knows how to"
        )

    def __repr__(self) -> str:
        return f"PolicyNoise({self.noise})"


def policy(context: Context, *, noise: ActionNoise) -> PolicyNoise:
    """Noise of the policy in one environment; as in `PolicyNoise`."""
    return PolicyNoise(noise)

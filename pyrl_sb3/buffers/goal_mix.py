"""What share of a batch gets goals of which kind."""

from collections.abc import Mapping

from pyrl_sb3.buffers.fields import known_keys


def shares(goal_mix: Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """The share of rows with new goals, and among these the shares of the strategies."""
    kinds = ("real", "future", "final", "episode")
    known_keys("goal_mix", goal_mix, dict.fromkeys(kinds))
    total = sum(goal_mix.values())
    if min(goal_mix.values(), default=-1) < 0 or not 0 < total < float("inf"):
        raise ValueError(
            f"goal_mix={dict(goal_mix)} is no ratio: give weights such as {{'real': 1}}"
        )
    new = total - goal_mix.get("real", 0)
    shares = {kind: goal_mix[kind] / new for kind in kinds[1:] if goal_mix.get(kind)}
    return new / total, shares

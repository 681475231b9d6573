"""
Controllers written from the task, for demonstrations that need no download.

Each looks at one observation and remembers nothing, so that what it does can be cloned by a policy
that sees the same. Positions are in metres. Actions ``(4,)``: the gripper moves by up to 5 cm a
step along each axis, and opens (1) or closes (-1).
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Controller: TypeAlias = Callable[[Mapping[str, Array]], Array]

# Actions for a metre: 5 cm a step, a little less than all the way to keep from overshooting.
_GAIN = 12.0
_OPEN, _CLOSED = 1.0, -1.0
# How far the fingers are apart, in metres, with the object of 5 cm between them
_HELD = (0.04, 0.055)


def _move(offset: Array, fingers: float) -> Array:
    return np.append(np.clip(_GAIN * offset, -1, 1), fingers)


def reach(observation: Mapping[str, Array]) -> Array:
    """FetchReach: straight to the goal."""
    return _move(observation["desired_goal"] - observation["achieved_goal"], _CLOSED)


def push(observation: Mapping[str, Array]) -> Array:
    """FetchPush: over the table to where the object stands between gripper and goal, then on."""
    grip, thing = observation["observation"][:3], observation["achieved_goal"]
    way = (observation["desired_goal"] - thing) * [1, 1, 0]
    distance = float(np.linalg.norm(way))
    if distance < 0.015:
        return _move(_up(0.0), _CLOSED)
    way /= distance
    behind = thing - 0.07 * way
    off = (behind - grip) * [1, 1, 0]
    # How far the gripper is beside the line through object and goal, seen from the object
    beside = (grip - thing) * [1, 1, 0]
    sideways = float(np.linalg.norm(beside - (beside @ way) * way))
    low = grip[2] < thing[2] + 0.02
    if low and sideways < 0.015 and beside @ way < -0.03:
        speed = min(1.0, 0.3 + 4 * distance)
        return _move(0.05 * speed * way + 6 * ((behind - grip) @ _left(way)) * _left(way), _CLOSED)
    if float(np.linalg.norm(off)) < 0.012:
        return _move(off + _up(thing[2] - grip[2]), _CLOSED)
    return _move(off * (grip[2] > thing[2] + 0.05) + _up(thing[2] + 0.09 - grip[2]), _CLOSED)


def _up(by: float) -> Array:
    return np.array([0, 0, by])


def _left(way: Array) -> Array:
    return np.array([-way[1], way[0], 0])


def pick_and_place(observation: Mapping[str, Array]) -> Array:
    """FetchPickAndPlace: above the object, down, grasp, carry."""
    state = observation["observation"]
    thing = state[6:9]  # seen from the gripper
    fingers = state[9] + state[10]  # metres apart
    goal = observation["desired_goal"] - observation["achieved_goal"]
    aside = float(np.linalg.norm(thing[:2]))
    holds = _HELD[0] < fingers < _HELD[1] and aside < 0.02 and abs(thing[2]) < 0.03
    if holds:
        return _move(goal, _CLOSED)
    if aside < 0.01 and abs(thing[2]) < 0.01:
        return _move(_up(0.0), _CLOSED)
    if aside > 0.015:
        over = thing[2] < -0.03  # the gripper is high enough to move sideways
        return _move((thing + _up(0.06)) * [over, over, 1], _OPEN)
    return _move(thing, _OPEN)


CONTROLLERS: dict[str, Controller] = {
    "FetchReach": reach,
    "FetchPush": push,
    "FetchPickAndPlace": pick_and_place,
}

"""A maze of cells to find one's way in."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from pyrl_sb3.envs.goals import Observation, SparseGoals

_MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])  # up, right, down, left


class GridMaze(SparseGoals):
    """
    Walk from one cell of a maze to another, up, right, down or left; walls stop a step.

    Each pair of cells is joined by exactly one path. The maze is the same in each episode, start
    and goal are drawn. Observations hold row and column, from 0. The reward is -1 until the goal is
    reached, then 0.

    :param size: rows and columns of cells
    :param maze_seed: of the walls
    :param max_steps: after which an episode is truncated; by default 4 * size**2
    :raises ValueError: a maze needs two rows at least, an episode one step
    """

    def __init__(
        self,
        size: int = 8,
        maze_seed: int = 0,
        max_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if size < 2:
            raise ValueError(f"size={size}: must be at least 2")
        if max_steps is not None and max_steps < 1:
            raise ValueError(f"max_steps={max_steps}: must be at least 1")
        self.size = size
        self.max_steps = max_steps or 4 * size**2
        self.render_mode = render_mode
        cells = spaces.Box(0, size - 1, (2,), np.float32)
        self.observation_space = spaces.Dict(
            observation=cells, achieved_goal=cells, desired_goal=cells
        )
        self.action_space: spaces.Discrete = spaces.Discrete(4)
        self.doors = _dig(size, np.random.default_rng(maze_seed))
        self._cell, self._goal = np.zeros(2, int), np.ones(2, int)
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        gym.Env.reset(self, seed=seed)
        start, goal = self.np_random.choice(self.size**2, 2, replace=False)
        self._cell, self._goal = (np.array(divmod(int(i), self.size)) for i in (start, goal))
        self._steps = 0
        return self._observe(), {"is_success": False}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        if self.doors[self._cell[0], self._cell[1], action]:
            self._cell = self._cell + _MOVES[action]
        self._steps += 1
        reached = np.array_equal(self._cell, self._goal)
        over = self._steps >= self.max_steps and not reached
        return self._observe(), float(reached) - 1, reached, over, {"is_success": reached}

    def _observe(self) -> Observation:
        here, goal = self._cell.astype(np.float32), self._goal.astype(np.float32)
        return {"observation": here, "achieved_goal": here.copy(), "desired_goal": goal}

    def render(self) -> str | None:
        """With ``render_mode="ansi"``: the maze, ``A`` in it and its goal ``G``."""
        if self.render_mode != "ansi":
            return None
        lines = ["+--" * self.size + "+"]
        for row in range(self.size):
            marks = [self._mark(row, column) for column in range(self.size)]
            doors = self.doors[row]
            cells = zip(marks, doors, strict=True)
            lines.append("|" + "".join(m + (" " if d[1] else "|") for m, d in cells))
            lines.append("".join("+  " if d[2] else "+--" for d in doors) + "+")
        return "\n".join(lines)

    def _mark(self, row: int, column: int) -> str:
        if np.array_equal(self._cell, (row, column)):
            return "A "
        return "G " if np.array_equal(self._goal, (row, column)) else "  "


def _dig(size: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Doors of a maze dug depth first, ``(size, size, 4)``: whether a move leads out of a cell."""
    doors = np.zeros((size, size, 4), bool)
    seen = np.zeros((size, size), bool)
    path = [(0, 0)]
    seen[0, 0] = True
    while path:
        row, column = path[-1]
        ways = [way for way in _around(row, column, size) if not seen[way[1:]]]
        if not ways:
            path.pop()
            continue
        move, below, beside = ways[rng.integers(len(ways))]
        doors[row, column, move] = doors[below, beside, (move + 2) % 4] = True
        seen[below, beside] = True
        path.append((below, beside))
    return doors


def _around(row: int, column: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Move, row and column of each cell beside one."""
    for move, (down, right) in enumerate(_MOVES.tolist()):
        if 0 <= row + down < size and 0 <= column + right < size:
            yield move, row + down, column + right

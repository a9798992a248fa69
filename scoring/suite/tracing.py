"""Tiny Python programs, their text, and what they print."""

from typing import NamedTuple

import numpy as np

_OPS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}


class Step(NamedTuple):
    """``name op= operand``, once, `times` times, or only where `name` is above a bound."""

    name: str
    op: str
    operand: int | str
    times: int = 1
    above: int | None = None

    @property
    def text(self) -> str:
        """The step as Python."""
        body = f"{self.name} {self.op}= {self.operand}"
        if self.times > 1:
            return f"for _ in range({self.times}):\n    {body}"
        return body if self.above is None else f"if {self.name} > {self.above}:\n    {body}"


class Program(NamedTuple):
    """Sets x and y, takes its steps, and prints x."""

    x: int
    y: int
    steps: tuple[Step, ...]

    @property
    def text(self) -> str:
        """The program as Python."""
        lines = [f"x = {self.x}", f"y = {self.y}", *(step.text for step in self.steps)]
        return "\n".join([*lines, "print(x)"])

    @property
    def printed(self) -> int:
        """What it prints."""
        values = {"x": self.x, "y": self.y}
        for step in self.steps:
            if step.above is None or values[step.name] > step.above:
                for _ in range(step.times):
                    operand = step.operand
                    by = values[operand] if isinstance(operand, str) else operand
                    values[step.name] = _OPS[step.op](values[step.name], by)
        return values["x"]


def draw_program(rng: np.random.Generator) -> Program:
    """Draw a program in which y is changed, loops or not, and goes into x."""
    x, y, bound, first, second = rng.integers(1, 10, size=5).tolist()
    kind, sign, times = rng.integers(3), "+-"[rng.integers(2)], int(rng.integers(2, 5))
    change = (
        Step("y", sign, first),
        Step("y", "+", 1 + first % 3, times=times),
        Step("y", sign, first, above=bound),
    )[kind]
    steps = [change, Step("x", "+-"[rng.integers(2)], "y")]
    if rng.integers(2):
        steps.append((Step("x", "*", 2), Step("x", "-", second, above=bound))[rng.integers(2)])
    return Program(x, y, tuple(steps))

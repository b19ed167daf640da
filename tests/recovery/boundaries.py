"""The life of a harness that dies at a boundary: its steps, counted, and things that take them.

Once it is dead nothing of it has any effect, whatever its tasks still try while they unwind.
"""

from __future__ import annotations


class Died(BaseException):
    """SIGKILL, as the code under test would never see it."""


class Life:
    """Ends at a step, named or counted."""

    def __init__(self, dies_at=None):
        """`dies_at` is the number of a step, or how one is called: then the first of that name."""
        self.steps = 0
        self.dies_at = dies_at
        self.dead = False
        self.tears = False
        """It died over a write, and that is not cut short yet."""
        self.trail = []

    def step(self, name):
        if self.dead:
            raise Died(name)
        self.steps += 1
        self.trail.append(name)
        if self.dies_at in (self.steps, name):
            self.dead = True
            raise Died(name)


class Mortal:
    """Something real as one harness has it: before and after each of these methods it may die."""

    def __init__(self, real, life, names, what=""):
        """`what` is put before a method's name in the name of the step."""
        self._real, self._life, self._names, self._what = real, life, names, what

    def __getattr__(self, name):
        real = getattr(self._real, name)
        if name not in self._names:
            return real

        async def call(*args, **kwargs):
            self._life.step(f"before {self._what}{name}")
            done = await real(*args, **kwargs)
            self._life.step(f"after {self._what}{name}")
            return done

        return call

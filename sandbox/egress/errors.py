"""How a connection through the gate fails.

EgressError
├── Refused     decided against; the program inside is told which rule and how to ask
├── Malformed   what the program said has no clear reading
├── Unreached   the other side could not be resolved or connected to
└── Cut         ended by the gate: idle, over budget, revoked
"""

from __future__ import annotations


class EgressError(Exception):
    """The message is one line, made of our own words."""


class Refused(EgressError):
    def __init__(self, rule: str, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.rule = rule
        self.hint = hint
        """What the program's user could do about it."""


class Malformed(EgressError):
    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Unreached(EgressError):
    def __init__(self, message: str, *, late: bool = False) -> None:
        super().__init__(message)
        self.late = late
        """Because it took too long."""


class Cut(EgressError): ...

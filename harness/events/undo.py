"""Going back: the workspace kept at a checkpoint, and a session taken back to one."""

from __future__ import annotations

from typing import Annotated, Literal

from harness.messages import VERBATIM, Value


class Checkpointed(Value):
    """The workspace was kept as the calls before this entry left it; number 0 is how the session got it."""

    kind: Literal["checkpointed"] = "checkpointed"
    number: int
    digest: Annotated[str, VERBATIM]
    """BLAKE2b of the tree, which stands for every name, mode and byte of it."""
    files: int
    """Files and links that differ from the checkpoint before."""
    bytes: int
    """Stored for it alone."""
    left_out: int = 0
    """Names that are not kept: special files, what could not be read, what lies too deep."""
    unsettled: bool = False
    """Something ran that may have been writing while it was taken."""


class Rewound(Value):
    """The user went back: from here on nothing counts of what was said and done after that checkpoint.

    The workspace is as it was there. What was spent stays spent, and the entries in between stay written.
    """

    kind: Literal["rewound"] = "rewound"
    to: int
    digest: Annotated[str, VERBATIM]
    """Of the tree that was brought back."""
    removed: int
    """Names that were taken away or replaced."""
    made: int
    """Files and links that were written."""

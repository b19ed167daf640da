"""What can be wrong with checkpoints."""

from __future__ import annotations


class CheckpointError(Exception):
    """A checkpoint cannot be taken, read or brought back; the message says why, for people."""


class TooMuch(CheckpointError):
    """The tree does not fit into what checkpoints may take up."""


class Damaged(CheckpointError):
    """What is stored is not what was written."""

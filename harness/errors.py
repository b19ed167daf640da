"""Errors of the harness, each with the exit code the command line gives it.

    HarnessError             1
    ├── UsageError           2   the request itself is wrong
    ├── ApprovalRefused      3   a needed approval was refused or timed out
    ├── BudgetSpent          4
    ├── ProviderError        5   the model's service, after retries (harness.provider)
    └── JournalError         7   the record cannot be read, trusted or written
(6 is `sandbox.errors.SandboxError`, 130 an interrupt.)
"""

from __future__ import annotations


class HarnessError(Exception):
    """Base of this tree; the message is one line that says what to do."""

    exit_code = 1


class UsageError(HarnessError):
    exit_code = 2


class ApprovalRefused(HarnessError):
    exit_code = 3


class BudgetSpent(HarnessError):
    exit_code = 4


class JournalError(HarnessError):
    """`code` is stable: missing, exists, locked, corrupt, version, too_large, disk_full, io, closed."""

    exit_code = 7

    def __init__(self, message: str, *, code: str = "io") -> None:
        super().__init__(message)
        self.code = code

"""How a command ends: with an exit code, and one line on standard error when something went wrong.

A traceback is for us: it is shown only with USERMODE_DEBUG=1.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

USAGE = 2
SANDBOX = 6
INTERNAL = 70
"""EX_SOFTWARE: the fault is usermode's own, so it must look like neither the task's nor the sandbox's."""
INTERRUPTED = 130
CLOSED_PIPE = 141


def exit_code(error: BaseException) -> int | None:
    """The code for an error that is somebody's to mend; None for a fault of ours."""
    from harness.errors import HarnessError
    from policies.errors import PolicyError
    from sandbox.errors import SandboxError

    match error:
        case HarnessError():
            return error.exit_code
        case SandboxError():
            return SANDBOX
        case PolicyError():
            return USAGE
        case BaseExceptionGroup() if len(error.exceptions) == 1:
            return exit_code(error.exceptions[0])
    return None


def sentence(error: BaseException) -> str:
    """The error in one printable line."""
    from harness.visible import visible

    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    text = visible(" ".join(str(error).split())) or type(error).__name__
    if exit_code(error) is not None:
        return text
    if isinstance(error, OSError):
        return f"this machine refused: {text}"
    return f"internal error, please report it: {type(error).__name__}: {text} (USERMODE_DEBUG=1 shows where)"


@contextmanager
def guarded() -> Iterator[Callable[[int], NoReturn]]:
    """Run a command's body: `leave(code)` ends the process, and so does every error, with its own code."""
    try:
        yield _leave
        _leave(0)
    except BrokenPipeError as error:
        if not _reader_left():
            _complain(error)
        # Whoever read our output has gone (`usermode log | head`): end as SIGPIPE would have ended us.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(CLOSED_PIPE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if os.environ.get("USERMODE_DEBUG") == "1":
            raise
        _complain(error)


def _complain(error: Exception) -> NoReturn:
    print(f"usermode: {sentence(error)}", file=sys.stderr)
    code = exit_code(error)
    sys.exit(INTERNAL if code is None else code)


def _reader_left() -> bool:
    """Whether it is our standard output that broke, and not a pipe of the engine's or a provider's."""
    look = select.poll()
    look.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _, events in look.poll(0))


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()  # Here, so that a closed pipe is met inside `guarded`.
    sys.exit(code)

"""The command line: names, options and help. What a command does is in `harness.commands`.

`table.py` lists every command; the other files declare them, a subject each. All that is heavy is imported
when a command runs, so that `usermode --help` and a typing error answer at once. For the same reason no file
here says `from __future__ import annotations`: Typer would evaluate each of those strings, twice.
"""

from harness.cli.table import app, main

__all__ = ["app", "main"]

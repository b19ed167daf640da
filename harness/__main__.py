"""`python -m harness` is `usermode`."""

from harness.cli import main

main()

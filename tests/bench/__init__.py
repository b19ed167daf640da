"""The numbers (`python -m tests.bench`): ours and what they are compared with, measured in one run."""

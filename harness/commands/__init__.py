"""What each command of the command line does: plain functions that print and return an exit code."""

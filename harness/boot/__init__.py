"""Boot: a session's parts put together, started in order, and ended in the reverse order."""

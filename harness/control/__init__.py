"""Control: how the user's other terminals reach a session that runs."""

"""The journal (event log): written, read back and checked, and kept free of secrets."""

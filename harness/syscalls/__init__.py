"""The syscalls (tools) a model may make, one table of them, and what each does."""

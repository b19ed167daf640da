"""Recovery: a session goes on after its harness, its container or its machine went away in the middle."""

"""The wire: from what is said over it, to frames, to the socket that the engine attaches."""

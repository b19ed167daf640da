"""The kernel: the agent loop, and how a call gets from the model's words to a recorded result."""

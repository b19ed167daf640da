"""Memory: what of a session the model is sent, what is kept outside, and how it is found again."""

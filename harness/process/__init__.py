"""The process: what one session is while it runs (process control block), and what it may spend."""

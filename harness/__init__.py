"""Who decides: the kernel, its journal, and the devices it drives. Runs on the host."""

__version__ = "0.1.0"

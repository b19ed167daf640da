"""The engine (Docker daemon): its control plane, and the only place that knows the Docker SDK."""

from sandbox.engine.control import REQUEST_S, Engine, ImageFacts
from sandbox.engine.failures import MISSING, REMOTE

__all__ = ["MISSING", "REMOTE", "REQUEST_S", "Engine", "ImageFacts"]

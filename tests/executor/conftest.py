"""As for the core."""

from tests.core.conftest import no_thread_left

__all__ = ["no_thread_left"]

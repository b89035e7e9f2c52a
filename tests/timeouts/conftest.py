"""As for the core."""

from tests.core.conftest import no_thread_left, quiet

__all__ = ["no_thread_left", "quiet"]

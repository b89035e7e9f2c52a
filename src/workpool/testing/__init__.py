"""For tests of whatever uses a pool: a clock in hand, process functions to watch and to hold, and what every kind of
worker must do (`workpool.testing.conformance`, which needs pytest)."""

from workpool.testing.clock import ManualClock
from workpool.testing.doubles import Leash, Recorder, drain

__all__ = ["Leash", "ManualClock", "Recorder", "drain"]

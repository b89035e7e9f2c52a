"""Overload in virtual time: what a queue's discipline does to a load, before anybody runs it.

The disciplines are the very objects that a pool is given; no thread runs, nothing sleeps, and the same seed gives the
same numbers. `simulate(scenario, discipline)` tells the outcome of one; `workpool simulate` prints it for many.
"""

from workpool.simulate.arrivals import Arrivals, Bursts, Constant, Poisson
from workpool.simulate.engine import simulate
from workpool.simulate.outcome import Outcome
from workpool.simulate.rfc import RfcCoDel
from workpool.simulate.scenario import Item, Scenario
from workpool.simulate.service import Exponential, Fixed, LogNormal, Service

__all__ = [
    "Arrivals",
    "Bursts",
    "Constant",
    "Exponential",
    "Fixed",
    "Item",
    "LogNormal",
    "Outcome",
    "Poisson",
    "RfcCoDel",
    "Scenario",
    "Service",
    "simulate",
]

"""Twice the load that the workers can do, and what eight disciplines of the queue make of it.

    workpool simulate examples.overload:scenario --plot overload.svg

Ten workers do 500 items a second (20 ms each, exponentially distributed). 1,000 a second come, as from many users who
do not know of each other; an answer is of use for 200 ms after the question, and 30 % of the questions are critical.
"""

from __future__ import annotations

from typing import Final

from workpool import AdaptiveLifo, CoDel, Fifo, Lanes
from workpool.simulate import Exponential, Item, Poisson, RfcCoDel, Scenario

DEADLINE: Final = 0.2
BOUND: Final = DEADLINE / 3
"""What an item may wait, so that it has twice that to run."""


def lane(item: Item) -> int:
    return 0 if item.critical else 1


# Where a name does not say how long the queue is, it is 1,000, the default: as long as what is done is decided by the
# rule and not by the size, another one changes nothing but how many are refused and not shed.
scenario = Scenario(
    arrivals=Poisson(1000),
    service=Exponential(0.02),
    deadline=DEADLINE,
    critical=0.3,
    workers=10,
    seconds=600,
    seed=1,
    policies={
        "FIFO, queue 1000, drop when full": Fifo(1000),
        "FIFO, queue 50": Fifo(50),
        # "Past" once it has waited for all of the deadline. Who is taken just before is late when it ends.
        "FIFO, dropped at dequeue if already past the deadline": Fifo(max_wait=DEADLINE),
        "FIFO, dropped if it waited more than a third of the deadline": Fifo(max_wait=BOUND),
        # The queue is bounded, at 1,000: the law sheds too little to keep it from getting full.
        "RFC 8289 CoDel (the square-root law)": RfcCoDel(),
        "CoDel as services use it": CoDel(target=0.005, interval=0.1),
        "adaptive LIFO": AdaptiveLifo(after=0.1),
        # 100 in a lane are more than 300 critical ones a second ever make wait.
        "two lanes, critical first": Lanes(lane, [100, CoDel(100)], max_wait=BOUND),
    },
)

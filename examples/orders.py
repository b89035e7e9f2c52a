"""What the services of the example `distributed` do with an order: ship it, and write that where all can see it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from workpool import current

LEDGER = os.environ.get("ORDERS_LEDGER", "orders.ledger")


@dataclass
class Order:
    number: int
    item: str


def ship(order: Order) -> None:
    current().sleep(0.004)
    ledger = os.open(LEDGER, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(ledger, b"%d\n" % order.number)  # one write at the end of the file: services do not mix their lines
    finally:
        os.close(ledger)

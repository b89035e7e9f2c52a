"""A message pipeline: telemetry, commands and status reports come in bursts, faster than they can be handled.

    python -m examples.messages

It shows how to hand work over without blocking the receiver, how to choose what is shed when the queue is
full, that a message that fails harms no other, statistics meanwhile, and a stop that accounts for all.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from threading import Event, Lock
from typing import Final, assert_never

from workpool import Hooks, Pool, PoolStats, QueueFull, current

BURSTS = 8
BURST = 150
MALFORMED = 0.01


# -- the messages, as JSON lines: {"type": "telemetry", "device": "pump-1", "temperature": 61.5} ------------


@dataclass(frozen=True, slots=True)
class Telemetry:
    device: str
    temperature: float


@dataclass(frozen=True, slots=True)
class Command:
    device: str
    action: str


@dataclass(frozen=True, slots=True)
class Status:
    device: str
    online: bool


Message = Telemetry | Command | Status
TYPES: dict[str, type[Message]] = {"telemetry": Telemetry, "command": Command, "status": Status}


def encode(message: Message) -> str:
    return json.dumps({"type": type(message).__name__.lower(), **asdict(message)})


def decode(line: str) -> Message:
    """Raises ValueError for what is no message."""
    try:
        fields = json.loads(line)
        return TYPES[fields.pop("type")](**fields)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no message: {error}") from error


def is_command(line: str) -> bool:
    """A look at the text is enough for the receiver; reading the rest is the workers' business."""
    return line.startswith('{"type": "command"')


# -- handling them, in the workers ---------------------------------------------------------------------------


class Plant:
    """What the messages are about. The workers share it, so whatever they write is behind a lock."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.handled: Counter[str] = Counter()
        self.hottest = 0.0
        self.online: set[str] = set()

    def handle_line(self, line: str) -> None:
        """The process function. What it raises fails this one message; the worker goes on with the next."""
        self.handle(decode(line))

    def handle(self, message: Message) -> None:
        match message:
            case Telemetry():
                current().sleep(0.004)  # a write to a database; ends early if the pool has to stop
                with self._lock:
                    self.hottest = max(self.hottest, message.temperature)
            case Command():
                current().sleep(0.008)  # a call to the device
            case Status():
                current().sleep(0.002)
                with self._lock:
                    (self.online.add if message.online else self.online.discard)(message.device)
            case _:
                assert_never(message)
        with self._lock:
            self.handled[type(message).__name__.lower()] += 1


PLANT: Final = Plant()


def process_message(message: Message) -> None:
    """The process function of a service, which reads the message from its JSON: `workpool serve`, `workpool run`."""
    PLANT.handle(message)


# -- receiving them ------------------------------------------------------------------------------------------


def bursts(seed: int) -> Iterator[list[str]]:
    """What comes in, the same for the same seed; about 1 in 100 is malformed."""
    dice = random.Random(seed)
    for _ in range(BURSTS):
        yield [_damaged(line, dice) if dice.random() < MALFORMED else line for line in _lines(dice)]


def _lines(dice: random.Random) -> Iterator[str]:
    for _ in range(BURST):
        device = f"pump-{dice.randint(1, 9)}"
        match dice.choices(["telemetry", "status", "command"], weights=[7, 2, 1]):
            case ["telemetry"]:
                yield encode(Telemetry(device, round(dice.gauss(60, 10), 1)))
            case ["status"]:
                yield encode(Status(device, dice.random() < 0.9))
            case _:
                yield encode(Command(device, dice.choice(["calibrate", "restart", "flush"])))


def _damaged(line: str, dice: random.Random) -> str:
    return dice.choice([line[: len(line) // 2], line.replace('"type"', '"kind"'), line.replace("device", "devise")])


def receive(pool: Pool[str, None], line: str) -> None:
    """Hand one message over. Never waits, but for a command.

    A reading that finds no room is shed: a newer one follows. A command must not be lost, so its sender has to wait.
    """
    if is_command(line):
        pool.submit_wait(line)
        return
    try:
        pool.submit(line)
    except QueueFull:
        pass  # the pool has counted it, as `dropped`; elsewhere this would answer "429, come back in retry_after"


def line_of(stats: PoolStats) -> str:
    return (
        f"{stats.offered:5} received {stats.processed:5} processed {stats.failed:3} failed {stats.dropped:4} shed"
        f" {stats.queue_depth:4}/{stats.queue_size} queued {stats.workers_busy:2}/{stats.workers} busy"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="A message pipeline on a worker pool.")
    parser.add_argument("--seed", type=int, default=1, help="which messages come (default 1)")
    seed: int = parser.parse_args().seed

    plant = Plant()
    errors: list[str] = []  # the workers only append, which is safe from any thread

    def note(line: str, error: BaseException) -> None:
        errors.append(f"{type(error).__name__}: {error}: {line}")

    logging.getLogger("workpool").setLevel(logging.CRITICAL)  # else each failure is logged, with its traceback
    quit_early = Event()  # a service would set it in a signal handler

    with Pool(plant.handle_line, workers=8, queue_size=100, name="messages", hooks=Hooks(error=note)) as pool:
        for number, burst in enumerate(bursts(seed), 1):
            if quit_early.wait(0.05):  # the network is quiet for a moment
                break
            for line in burst:
                receive(pool, line)
            print(f"burst {number}: {line_of(pool.stats())}")
        report = pool.stop(timeout=10.0)

    stats = report.stats
    print(f"\n{report}")
    print(f"received  {stats.offered:5} = {stats.submitted} accepted + {stats.dropped} shed")
    print(f"accepted  {stats.submitted:5} = {stats.succeeded} succeeded + {stats.failed} failed")
    for kind, count in plant.handled.most_common():
        print(f"{kind:9} {count:5}")
    print(f"hottest   {plant.hottest:5} °C; {len(plant.online)} pumps online")
    print(f"\nthe first of {len(errors)} failures:")
    for text in errors[:3]:
        print(f"  {text}")


if __name__ == "__main__":
    main()

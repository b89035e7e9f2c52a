"""Webhooks: what happened is told to the customers' server, over HTTP, and the server has a bad day.

    python -m examples.webhooks                        # two seconds, and the counts
    python -m examples.webhooks --dead dead.jsonl      # and the dead letters, as JSON lines
    python -m examples.webhooks --again dead.jsonl     # those letters, sent again

The receiver's database is down for a while (503), some customers are asked to wait (429) or are gone (410), some
payloads are broken (400), some events break the receiver (500), and some connections are cut: before an event was
accepted, or after, so that it comes again. Its URL says which event it is, by which the receiver accepts it once.

It shows what each of these answers means to a pool, that a customer's events stay in order while those of others are
not held up, a budget that keeps retries from being most of the load while the receiver is down, and dead letters.
The seed chooses the events and the mishaps. Which events meet the outage is a matter of time.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING

from workpool import (
    ByKey,
    Discard,
    DrainReport,
    Exponential,
    Hooks,
    Invalid,
    Pool,
    Retry,
    Snooze,
    StopTimeout,
    Transient,
)

if TYPE_CHECKING:
    from typing import Self

EVENTS = 600
CUSTOMERS = 20
GONE = "customer-7"
MALFORMED = 0.01
OUTAGE = 150
"""So many requests the receiver refuses while it is down. Not seconds: the example is to be as fast as its machine."""
TIMEOUT = 10.0

RETRY = Retry(attempts=5, on=(ConnectionError, TimeoutError), backoff=Exponential(0.02, 0.5), budget=0.1)


@dataclass(frozen=True, slots=True)
class Event:
    customer: str
    number: int
    payload: str

    @property
    def path(self) -> str:
        return f"/{self.customer}/{self.number}"


def make_events(seed: int, count: int = EVENTS) -> list[Event]:
    """Those of all customers, mixed, and each customer's numbered from 1. About 1 in 100 is malformed."""
    dice = random.Random(seed)
    numbers: Counter[str] = Counter()
    events: list[Event] = []
    for _ in range(count):
        customer = f"customer-{dice.randint(1, CUSTOMERS)}"
        numbers[customer] += 1
        payload = json.dumps({"paid": dice.randint(1, 500)})
        events.append(Event(customer, numbers[customer], payload[:-1] if dice.random() < MALFORMED else payload))
    return events


# -- the receiver --------------------------------------------------------------------------------------------

MISHAPS = {"none": 0.94, "cut": 0.03, "lost": 0.02, "busy": 0.005, "broken": 0.005}
"""What an event meets, and how often. The connection is cut before it was accepted, or its answer is lost; it has to
come later; or it breaks the receiver, each time."""

CUT = 0
"""In the place of a status: there is no answer."""


class Receiver:
    """The customers' server: what it accepted of each of them, in that order, and what it answered."""

    def __init__(self, seed: int | None = None, gone: Iterable[str] = (GONE,), outage_at: int | None = None) -> None:
        """Without a seed there is no mishap, and without `outage_at`, a number of accepted events, no outage."""
        self.accepted: dict[str, list[int]] = {}
        self.answers: Counter[int] = Counter()
        self.gone = frozenset(gone)
        self.refusals_left = 0
        """While it is not 0, the database is down."""
        self.retry_after = 1
        self._seed = seed
        self._outage_at = outage_at
        self._had_mishap: set[tuple[str, int]] = set()
        self._lock = Lock()
        self._server = _Server(self)
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), name="receiver")

    @property
    def port(self) -> int:
        return self._server.server_port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, customer: str, number: int, payload: bytes) -> int:
        """The status for one request, or `CUT`."""
        with self._lock:
            status = self._status(customer, number, payload)
            self.answers[status] += 1
            return status

    def _status(self, customer: str, number: int, payload: bytes) -> int:
        if customer in self.gone:
            return HTTPStatus.GONE
        if not _is_json(payload):
            return HTTPStatus.BAD_REQUEST
        if self.refusals_left:
            self.refusals_left -= 1
            return HTTPStatus.SERVICE_UNAVAILABLE
        match self._mishap(customer, number):
            case "cut":
                return CUT
            case "lost":
                self._accept(customer, number)
                return CUT
            case "busy":
                return HTTPStatus.TOO_MANY_REQUESTS
            case "broken":
                return HTTPStatus.INTERNAL_SERVER_ERROR
            case _:
                self._accept(customer, number)
                return HTTPStatus.OK

    def _mishap(self, customer: str, number: int) -> str:
        """Each event has one at most once, but for the one that breaks the receiver."""
        if self._seed is None:
            return "none"
        [mishap] = random.Random(f"{self._seed} {customer} {number}").choices([*MISHAPS], [*MISHAPS.values()])
        is_new = (customer, number) not in self._had_mishap
        self._had_mishap.add((customer, number))
        return mishap if is_new or mishap == "broken" else "none"

    def _accept(self, customer: str, number: int) -> None:
        accepted = self.accepted.setdefault(customer, [])
        if number in accepted:
            return  # it has come before, and the answer was lost
        accepted.append(number)
        if sum(map(len, self.accepted.values())) == self._outage_at:
            self.refusals_left = OUTAGE


def _is_json(payload: bytes) -> bool:
    try:
        json.loads(payload)
    except ValueError:
        return False
    return True


class _Server(ThreadingHTTPServer):
    request_queue_size = 100
    daemon_threads = False  # so that closing it waits for the last answer

    def __init__(self, receiver: Receiver) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.receiver = receiver


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        _, customer, number = self.path.split("/")
        payload = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, _Server)
        receiver = self.server.receiver
        status = receiver.answer(customer, int(number), payload)
        if status == CUT:
            return
        self.send_response(status)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self.send_header("Retry-After", str(receiver.retry_after))
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: it would be a line for each."""


# -- the sender ----------------------------------------------------------------------------------------------


class Refused(Exception):
    """The receiver has answered, and has not accepted the event."""

    def __init__(self, status: int, reason: str, retry_after: float) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.retry_after = retry_after


class Sender:
    def __init__(self, port: int) -> None:
        self._port = port

    def deliver(self, event: Event) -> None:
        """The process function. Raises `Refused`, or OSError if there is no answer."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        try:
            connection.request("POST", event.path, event.payload, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != HTTPStatus.OK:
                raise Refused(answer.status, answer.reason, float(answer.getheader("Retry-After", "1")))
        finally:
            connection.close()


def classify(error: Exception) -> Exception | type[Exception] | None:
    """What an answer means for the event. What is no answer is what it is: `Retry(on=...)` has it."""
    if not isinstance(error, Refused):
        return None
    match error.status:
        case HTTPStatus.TOO_MANY_REQUESTS:
            return Snooze(error.retry_after)
        case HTTPStatus.GONE:
            return Discard("the customer is gone")
        case status if status >= 500:
            return Transient
        case _:
            return Invalid


class Letters:
    """The events that could not be delivered, each with the reason and the number of attempts; in a file, if there is
    one, as soon as that is known."""

    def __init__(self, path: Path | None = None) -> None:
        self.events: list[Event] = []
        self._path = path
        self._lock = Lock()
        if path is not None:
            path.write_text("")

    def dead(self, event: Event, error: BaseException, attempts: int) -> None:
        """The hook; the workers call it."""
        self._add(event, f"{type(error).__name__}: {error}", attempts)

    def undone(self, report: DrainReport[Event]) -> None:
        """What a stop left. How often it was tried is not known, nor whether it has arrived."""
        for event in (*(left.item for left in report.abandoned), *report.unprocessed):
            self._add(event, "the sender was stopped", None)

    def _add(self, event: Event, reason: str, attempts: int | None) -> None:
        line = json.dumps({**asdict(event), "reason": reason, "attempts": attempts})
        with self._lock:
            self.events.append(event)
            if self._path is not None:
                with self._path.open("a") as file:
                    file.write(f"{line}\n")


def read_letters(path: Path) -> list[Event]:
    """The events of a file of letters, to be sent again: each customer's in their order, whenever they died."""
    letters = map(json.loads, path.read_text().splitlines())
    events = [Event(letter["customer"], letter["number"], letter["payload"]) for letter in letters]
    return sorted(events, key=lambda event: event.number)


def customer(event: Event) -> str:
    return event.customer


def make_pool(port: int, letters: Letters, retry: Retry = RETRY) -> Pool[Event, None]:
    return Pool(
        Sender(port).deliver,
        name="webhooks",
        workers=8,
        queue_size=200,
        key=ByKey(customer, on_dead="go_on"),
        retry=retry,
        classify=classify,
        hooks=Hooks(dead=letters.dead),
    )


# -- what became of it ---------------------------------------------------------------------------------------


def deliver_all(
    pool: Pool[Event, None], events: Iterable[Event], letters: Letters, seconds: float
) -> DrainReport[Event]:
    """Hand all over, and stop. Who makes events waits when they are more than can be delivered; none is lost."""
    pool.start()
    try:
        for event in events:
            pool.submit_wait(event)
        stats = pool.stats()
        print(f"handed over {stats.submitted:5}: {stats.queue_depth} queued, {stats.waiting} waiting to be tried again")
    finally:
        try:
            report = pool.stop(seconds)
        except StopTimeout as late:
            report = late.report
        letters.undone(report)
    return report


def wrongs(events: Iterable[Event], receiver: Receiver, letters: Letters, report: DrainReport[Event]) -> list[str]:
    """What should not be."""
    found = [f"{who} got {got}" for who, got in receiver.accepted.items() if got != sorted(set(got))]
    elsewhere = set(letters.events)
    for event in events:
        arrived = event.number in receiver.accepted.get(event.customer, ())
        if not (arrived or event in elsewhere or event.customer in receiver.gone):
            found.append(f"{event} is lost")
    if report.stats.balance():
        found.append(f"the counts are off by {report.stats.balance()}")
    return found


def summary(receiver: Receiver, report: DrainReport[Event]) -> str:
    stats, answers = report.stats, receiver.answers
    dead = ", ".join(f"{reason} {count}" for reason, count in stats.dead.items() if count) or "none"
    return "\n".join(
        [
            f"delivered   {stats.succeeded:5}",
            f"discarded   {stats.discarded:5}: their customer is gone",
            f"dead        {stats.failed:5}: {dead}",
            f"unprocessed {len(report.unprocessed):5}, and {stats.abandoned} abandoned",
            f"retries     {stats.retries:5}, and {stats.snoozes} times told to come later",
            f"requests    {answers.total():5}: {answers[503]} met the outage, {answers[CUT]} had no answer",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Webhooks, to a server that has a bad day.")
    parser.add_argument("--seed", type=int, default=1, help="which events and mishaps there are (default 1)")
    parser.add_argument("--dead", type=Path, metavar="FILE", help="where to write the dead letters")
    parser.add_argument("--again", type=Path, metavar="FILE", help="dead letters to send, to a server that is well")
    parser.add_argument("--stop-timeout", type=float, default=20.0, help="seconds for what is not yet delivered")
    options = parser.parse_args()

    logging.getLogger("workpool").setLevel(logging.CRITICAL)  # else each dead letter is logged, with its traceback
    if options.again is None:
        events = make_events(options.seed)
        receiver = Receiver(options.seed, outage_at=EVENTS // 2)
    else:
        events = read_letters(options.again)
        receiver = Receiver()
    letters = Letters(options.dead)
    with receiver:
        report = deliver_all(make_pool(receiver.port, letters), events, letters, options.stop_timeout)
    print(summary(receiver, report))
    found = wrongs(events, receiver, letters, report)
    print("\n".join(found) or "Nothing is lost, nothing came twice, and each customer's events came in their order.")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())

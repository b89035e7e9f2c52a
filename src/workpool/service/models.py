"""The models of a configuration: each setting once, with its type, its default and a sentence about it.

The names and the defaults are those of the arguments that they become; each model says of which class (`makes`). The
sentences are read by `workpool schema` and by the table in the README.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from inspect import signature
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, cast

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    StringConstraints,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from workpool._core.discipline import AdaptiveLifo, CoDel, Fifo, Lanes, Overflow
from workpool._core.keys import ByKey, OnDead
from workpool._core.outcome import Exponential, Jitter, Retry
from workpool._core.rate import Rate
from workpool._fate import Hooks
from workpool.metrics import PREFIX
from workpool.pool import DEFAULT_QUEUE_SIZE, DEFAULT_STOP_TIMEOUT, DEFAULT_WORKERS, Pool
from workpool.service.durations import DURATION, seconds_of
from workpool.service.targets import ExceptionName, FunctionOf1, FunctionOf2, FunctionOf3, Initializer, Named
from workpool.sources.decoding import Unreadable, decoding
from workpool.sources.jetstream import JetStreamSource
from workpool.sources.jetstream.broker import NAME
from workpool.sources.jetstream.source import RETRY
from workpool.workers.choice import ExecutorName
from workpool.workers.settings import MOST, Interpreters, Processes

__all__ = ["Config", "PoolSettings", "Reading", "Settings", "is_mapping"]


class Reading:
    """What is noted while a file is read: which model each of its mappings was given to, by the mapping's `id`."""

    def __init__(self) -> None:
        self.models: dict[int, type[BaseModel]] = {}


def default(of: Callable[..., Any], name: str) -> Any:
    """What an argument is if it is left out."""
    return signature(of).parameters[name].default


# -- types -----------------------------------------------------------------------------------------

Count = Annotated[int, Strict(), Ge(1)]
Port = Annotated[int, Strict(), Ge(0), Le(65535)]
Batch = Annotated[int, Strict(), Ge(1), Le(MOST)]
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict(), MinLen(1)]
Name = Annotated[str, Strict(), StringConstraints(pattern=f"^{NAME.pattern}$")]
Prefix = Annotated[str, Strict(), StringConstraints(pattern=f"^{PREFIX.pattern}$")]

_DURATION = WithJsonSchema(
    {
        "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": DURATION}],
        "examples": ["250ms", "1m30s", 25],
    }
)
Seconds = Annotated[float, BeforeValidator(seconds_of), _DURATION]
Limit = Annotated[float, BeforeValidator(seconds_of), Gt(0), _DURATION]


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic wants a ValueError
    return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]


def is_mapping(value: object) -> bool:
    return isinstance(value, dict | BaseModel)


def _kind(value: object) -> str:
    """Which of several models a mapping is for: its `kind`. Tags are no words that could be keys."""
    if isinstance(value, BaseModel):
        return f"kind: {getattr(value, 'kind', None)}"
    return f"kind: {cast('dict[str, object]', value).get('kind')}" if isinstance(value, dict) else "(plain)"


def _shape(value: object) -> str:
    if is_mapping(value):
        return "(mapping)"
    is_function = isinstance(value, Named) or (isinstance(value, str) and ":" in value)
    return "(function)" if is_function else "(plain)"


def _mapping_or_function(value: object) -> str:
    return "(mapping)" if is_mapping(value) else "(function)"


# -- models ----------------------------------------------------------------------------------------


class Settings(BaseModel):
    """What all have in common: no key that is not known, and a value that they become."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    makes: ClassVar[Callable[..., Any]]
    """What is called with the settings."""
    aside: ClassVar[frozenset[str]] = frozenset({"kind"})
    """Settings that are no arguments."""

    @model_validator(mode="before")
    @classmethod
    def _note(cls, data: Any, info: ValidationInfo) -> Any:
        if isinstance(info.context, Reading):
            info.context.models[id(data)] = cls
        return data

    @model_validator(mode="after")
    def _check(self) -> Settings:
        """Whatever the class that it is for says against it."""
        if hasattr(type(self), "makes"):
            try:
                self.made()
            except TypeError as error:
                raise ValueError(str(error)) from None
        return self

    def arguments(self) -> Iterator[tuple[str, Any]]:
        """The settings as arguments."""
        for name in type(self).model_fields:
            if name not in self.aside:
                yield name, _made(getattr(self, name))

    def made(self) -> Any:
        """What the settings stand for."""
        return type(self).makes(**dict(self.arguments()))


def _made(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.made()
    if isinstance(value, Named):
        return value.value
    if not isinstance(value, list):
        return value
    values: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
    return tuple(map(_made, values))


class OneLaneSettings(Settings):
    size: Count = default(Fifo, "size")
    """How many accepted items may wait for a worker."""
    max_wait: Seconds | None = default(Fifo, "max_wait")
    """An item that has waited for longer when its turn comes is dropped."""
    overflow: Overflow = default(Fifo, "overflow")
    """What happens when it is full: the new item is refused, or the oldest is dropped."""
    deadline: FunctionOf1 | None = default(Fifo, "deadline")
    """A function of an item: within how many seconds its result is of use; what cannot make it is dropped."""


class FifoSettings(OneLaneSettings):
    """First in, first out."""

    makes = Fifo

    kind: Literal["fifo"]


class AdaptiveLifoSettings(OneLaneSettings):
    """First in, first out, and in an overload the newest first."""

    makes = AdaptiveLifo

    kind: Literal["adaptive_lifo"]
    overflow: Overflow = default(AdaptiveLifo, "overflow")
    """What happens when it is full: the new item is refused, or the oldest is dropped."""
    after: Limit = default(AdaptiveLifo, "after")
    """It is an overload when the queue has not been empty for so long."""


class CoDelSettings(OneLaneSettings):
    """First in, first out, and while items wait too long all the time, those that did are dropped."""

    makes = CoDel

    kind: Literal["codel"]
    target: Limit = default(CoDel, "target")
    """How long an item may wait all the time."""
    interval: Limit = default(CoDel, "interval")
    """The time in which a queue that is well gets there at least once."""


Lane: TypeAlias = Annotated[
    Annotated[Count, Tag("(plain)")]
    | Annotated[FifoSettings, Tag("kind: fifo")]
    | Annotated[AdaptiveLifoSettings, Tag("kind: adaptive_lifo")]
    | Annotated[CoDelSettings, Tag("kind: codel")],
    Discriminator(_kind),
]


class LanesSettings(Settings):
    """Several lanes, each of which goes before those after it."""

    makes = Lanes

    kind: Literal["lanes"]
    priority: FunctionOf1
    """A function of an item: the number of its lane, 0 for what goes first."""
    lanes: Annotated[list[Lane], MinLen(1)] = Field(examples=[[100, {"kind": "codel", "size": 50}]])
    """The lanes: each a size, or a mapping as for `queue`, but for lanes."""
    max_wait: Seconds | None = default(Lanes, "max_wait")
    """So long an item may wait in any lane; then it is dropped."""


Queue: TypeAlias = Annotated[
    Annotated[FifoSettings, Tag("kind: fifo")]
    | Annotated[AdaptiveLifoSettings, Tag("kind: adaptive_lifo")]
    | Annotated[CoDelSettings, Tag("kind: codel")]
    | Annotated[LanesSettings, Tag("kind: lanes")],
    Discriminator(_kind),
]


class ProcessesSettings(Settings):
    """Workers that are processes."""

    makes = Processes

    kind: Literal["process"]
    start_method: Literal["forkserver", "spawn", "fork"] | None = default(Processes, "start_method")
    """How a process starts; without it, forkserver where there is one, else spawn."""
    batch: Batch | None = default(Processes, "batch")
    """How many items a process is sent at once; without it, as many as take it 1.5 to 3 ms."""
    max_items: Count | None = default(Processes, "max_items")
    """After how many items a process is replaced by a new one."""
    start_timeout: Limit | None = default(Processes, "start_timeout")
    """The time in which a process is to be ready."""
    initializer: Initializer | None = default(Processes, "initializer")
    """A function that each process calls with `initargs` before its first item."""
    initargs: list[Any] = list(default(Processes, "initargs"))
    """What `initializer` is called with."""


class InterpretersSettings(Settings):
    """Workers that are subinterpreters, from Python 3.14 on."""

    makes = Interpreters

    kind: Literal["interpreter"]
    batch: Batch | None = default(Interpreters, "batch")
    """How many items an interpreter is sent at once; without it, as many as take it 1.5 to 3 ms."""
    initializer: Initializer | None = default(Interpreters, "initializer")
    """A function that each interpreter calls with `initargs` before its first item."""
    initargs: list[Any] = list(default(Interpreters, "initargs"))
    """What `initializer` is called with."""


ExecutorChoice: TypeAlias = Annotated[
    Annotated[ExecutorName, Tag("(plain)")]
    | Annotated[ProcessesSettings, Tag("kind: process")]
    | Annotated[InterpretersSettings, Tag("kind: interpreter")],
    Discriminator(_kind),
]


class BackoffSettings(Settings):
    """A backoff that grows."""

    makes = Exponential

    first: Seconds = default(Exponential, "first")
    """The time before the second attempt."""
    most: Seconds = default(Exponential, "most")
    """No attempt is further off than this."""
    factor: Annotated[Number, Ge(1)] = default(Exponential, "factor")
    """How many times as long it is each time."""


class AttemptsSettings(Settings):
    """Which messages are delivered again after their item has failed."""

    makes = Retry

    attempts: Count = default(Retry, "attempts")
    """How often an item is tried in all, the first time included."""
    on: list[ExceptionName] = Field(default=[kind.__name__ for kind in default(Retry, "on")], validate_default=True)
    """The exceptions after which it is tried again: Python's and workpool's by name, others as module:Class."""
    backoff: Annotated[
        Annotated[Seconds, Tag("(plain)")]
        | Annotated[FunctionOf1, Tag("(function)")]
        | Annotated[BackoffSettings, Tag("(mapping)")],
        Discriminator(_shape),
    ] = Field(default_factory=BackoffSettings, examples=["2s", {"first": "100ms", "most": "30s", "factor": 2}])
    """The time until the next attempt: always the same, one that grows, or a function of how many have failed."""
    jitter: Jitter = default(Retry, "jitter")
    """Whether it is a random part of that time, so that those that failed together do not come together."""


class RetrySettings(AttemptsSettings):
    """Which items are tried again after they have failed."""

    budget: Annotated[Number, Ge(0)] | None = default(Retry, "budget")
    """How many retries there may be for each first attempt, of late; null: no limit."""
    max_waiting: Count | None = default(Retry, "max_waiting")
    """How many items may wait for their next attempt; without it, as many as the queue has slots."""


class KeySettings(Settings):
    """An order by key."""

    makes = ByKey

    key: FunctionOf1
    """A function of an item: its key."""
    on_dead: OnDead = default(ByKey, "on_dead")
    """What happens to the rest of a key when an item has failed for good: it goes on, is held, or is dropped."""


class RateSettings(Settings):
    """How many items may start in how much time."""

    makes = Rate

    limit: Annotated[Number, Gt(0)]
    """How many items."""
    per: Limit = default(Rate, "per")
    """In how much time."""
    burst: Count = default(Rate, "burst")
    """How many of them may start at once, after a time in which fewer did."""


class HooksSettings(Settings):
    """Functions that are called when something happens to an item."""

    makes = Hooks

    error: FunctionOf2 | None = default(Hooks, "error")
    """Called with the item and the exception when it has failed."""
    shed: FunctionOf2 | None = default(Hooks, "shed")
    """Called with the item and the reason when a rule of the queue has dropped it."""
    dead: FunctionOf3 | None = default(Hooks, "dead")
    """Called with the item, the exception and the number of attempts when it has failed for good."""
    stuck: FunctionOf3 | None = default(Hooks, "stuck")
    """Called with the item, its seconds and its stack when it has run for too long."""


class LinesSettings(Settings):
    """The lines of a file or a pipe."""

    kind: Literal["lines"]
    path: Text = Field(examples=["-", "items.jsonl"])
    """The file; - is the standard input."""
    unprocessed: Text | None = None
    """The file to which is added what a stop left undone; without it, the pool's name with .unprocessed."""

    @property
    def of(self) -> str:
        """What it reads."""
        return self.path

    @model_validator(mode="after")
    def _check_unprocessed(self) -> LinesSettings:
        if self.unprocessed == self.path:
            raise ValueError("unprocessed must be another file than path, to which it would be added")
        return self


class JetStreamSettings(Settings):
    """The messages of a stream of NATS JetStream."""

    makes = JetStreamSource

    kind: Literal["jetstream"]
    url: Text | None = Field(default=None, examples=["nats://127.0.0.1:4222"])
    """The NATS server, or several of one cluster with commas; without it that of `--with-nats`, or this machine's."""
    stream: Name = Field(examples=["orders"])
    """The stream, which is the name of a `JetStreamQueue`."""
    consumer: Name = default(JetStreamSource, "consumer")
    """The durable consumer, which is made if there is none; services with the same share the messages."""
    retry: AttemptsSettings | None = None
    """Which messages the broker delivers again after a failure; without it five times, after 1 s to 60 s."""
    ack_wait: Limit = default(JetStreamSource, "ack_wait")
    """The time after which the broker delivers a message again of which it has not heard."""
    max_deliver: Count = default(JetStreamSource, "max_deliver")
    """After how many deliveries a message is dead, whatever came of them."""
    max_ack_pending: Count = default(JetStreamSource, "max_ack_pending")
    """How many messages all services together may have at a time."""
    dead_letter: Text | None = default(JetStreamSource, "dead_letter")
    """The subject for what has failed for good; without it the stream's name with .dead, in a stream that is made."""
    credentials: Text | None = default(JetStreamSource, "credentials")
    """The path of a file with the credentials of the account."""

    @property
    def of(self) -> str:
        """What it pulls from."""
        return f"stream {self.stream}"

    def made(self) -> None:
        """Nothing: a source needs its pool. But it says if it never could be."""
        if find_spec("nats") is None:
            raise ValueError(
                "a source of kind jetstream needs nats-py, not installed here: pip install 'workpool[nats]'"
            )

    def source(self, pool: Pool[Any, Any], settings: PoolSettings, url: str) -> JetStreamSource:
        """The source itself, which is not started."""
        arguments = dict(self.arguments())
        arguments["url"] = self.url or url
        arguments["retry"] = arguments["retry"] or RETRY
        arguments["classify"] = None if settings.classify is None else settings.classify.value
        arguments["decode"] = decoding(settings.process.value, settings.process.name)
        return JetStreamSource(pool, **arguments)


Source: TypeAlias = Annotated[
    Annotated[LinesSettings, Tag("kind: lines")] | Annotated[JetStreamSettings, Tag("kind: jetstream")],
    Discriminator(_kind),
]


class PoolSettings(Settings):
    """One pool."""

    aside = frozenset({"source"})

    process: FunctionOf1 = Field(examples=["examples.messages:process_message"])
    """The function that is run on each item, plain or async."""
    workers: Count = DEFAULT_WORKERS
    """How many threads, tasks, processes or subinterpreters run it."""
    queue_size: Count = DEFAULT_QUEUE_SIZE
    """How many accepted items may wait for a worker."""
    queue: Queue | None = default(Pool, "queue")
    """The queue's rule, in place of `queue_size`."""
    executor: ExecutorChoice | None = default(Pool, "executor")
    """Who runs items; without it threads, or tasks if the function is async."""
    retry: RetrySettings | None = default(Pool, "retry")
    """Which items are tried again after they have failed; without it none."""
    classify: FunctionOf1 | None = default(Pool, "classify")
    """A function of an exception: what it is to be taken for."""
    key: (
        Annotated[
            Annotated[FunctionOf1, Tag("(function)")] | Annotated[KeySettings, Tag("(mapping)")],
            Discriminator(_mapping_or_function),
        ]
        | None
    ) = Field(default=default(Pool, "key"), examples=["package.module:function"])
    """A function of an item: those with the same key run one at a time and in their order."""
    rate: RateSettings | None = default(Pool, "rate")
    item_timeout: Limit | None = default(Pool, "item_timeout")
    """How long an item may run; then it has failed."""
    stop_timeout: Seconds | None = default(Pool, "stop_timeout")
    """How long a stop of the pool waits for its items, null: for ever; that of a service has `shutdown.grace`."""
    carry_context: Flag = default(Pool, "carry_context")
    """Whether the context variables of whoever submits are those of the function."""
    hooks: HooksSettings | None = default(Pool, "hooks")
    metrics: Flag = True
    """Whether the pool exports metrics."""
    metrics_prefix: Prefix | None = default(Pool, "metrics_prefix")
    """The prefix for the original's names; without it the pool's name, if `metrics.worker_pools.prefixes` has that."""
    source: Source | None = None
    """Where items come from."""

    @model_validator(mode="after")
    def _check_pool(self) -> PoolSettings:
        if self.queue is not None and "queue_size" in self.model_fields_set:
            raise ValueError("queue_size and queue both say how many; leave one out (queue has a size of its own)")
        try:
            self.pool("pool")
            if self.source is not None:
                decoding(self.process.value, self.process.name)
        except Unreadable as error:
            raise ValueError(f"process {error}, as a source has text") from None
        except TypeError as error:
            raise ValueError(str(error)) from None
        return self

    def pool(self, name: str, *, metrics: Any = False, prefix: str | None = None) -> Pool[Any, Any]:
        """The pool itself, which is not started."""
        arguments: dict[str, Any] = dict(self.arguments()) | {"metrics": metrics, "metrics_prefix": prefix}
        if self.queue is not None:
            del arguments["queue_size"]
        return Pool(arguments.pop("process"), name=name, **arguments)


class WorkerPoolMetrics(Settings):
    """How the metrics of pools are exported."""

    prefixes: list[Prefix] = Field(default_factory=list[str], examples=[["message_processor", "batch_processor"]])
    """The pools that also export the seven series of the original, each under its own name."""
    update_interval: Limit = Field(default=1.0, examples=["1s"])
    """How often the page and the log line of statistics are refreshed."""


class MetricsSettings(Settings):
    """What is exported, and how often it is refreshed."""

    worker_pools: WorkerPoolMetrics = Field(default_factory=WorkerPoolMetrics)


class ServerSettings(Settings):
    """The HTTP server."""

    host: Text = "127.0.0.1"
    """The address on which it listens."""
    port: Port = 9090
    """The port on which it listens; 0 takes a free one."""
    token: Text | None = Field(default=None, repr=False)
    """The token of those who may pause, resume, resize and drain pools; without it nobody may."""
    names: list[Text] = Field(default_factory=list[str], examples=[["pools.example.org"]])
    """The names by which it may be asked for on a loopback address, besides localhost and addresses."""
    stuck_after: Limit = 10.0
    """How long an item may run until the page shows its worker as stuck, with its stack."""


class ShutdownSettings(Settings):
    """The stop of the service."""

    grace: Seconds = Field(default=DEFAULT_STOP_TIMEOUT, examples=["25s"])
    """The time for all of it, which is the container's grace period."""


class Config(Settings):
    """A configuration of `workpool serve`: pools, and what is around them."""

    model_config = ConfigDict(title="workpool")

    worker_pools: Annotated[dict[Text, PoolSettings], MinLen(1)]
    """The pools, by their names."""
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    server: ServerSettings = Field(default_factory=ServerSettings)
    shutdown: ShutdownSettings = Field(default_factory=ShutdownSettings)

    def prefix_of(self, name: str) -> str | None:
        """Under which prefix a pool exports the original's names too."""
        own = self.worker_pools[name].metrics_prefix
        return name if own is None and name in self.metrics.worker_pools.prefixes else own

"""`workpool run`: from its options to its exit code.

Rules: everything that can be wrong is looked at before anything is written or started. Once lines are
read, each ends in exactly one of output, failures and unprocessed, whatever happens.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Literal

from workpool import metrics
from workpool.cli import leftover, paths
from workpool.cli.job import Job, signals
from workpool.cli.pools import Function, Settings, make_pool, window
from workpool.cli.summary import Result
from workpool.cli.target import decoder, load
from workpool.cli.wrong import Wrong
from workpool.sources.lines import STDIN, joined, total_bytes
from workpool.workers.choice import is_async

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["Options", "run"]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    target: str
    files: tuple[str, ...]
    workers: int
    queue_size: int
    executor: Literal["thread", "process"] | None
    timeout_per_item: float | None
    retry: int
    output: str
    ordered: bool
    failed: str | None
    unprocessed: str | None
    timeout: float
    metrics_port: int | None
    progress: bool | None


def run(options: Options) -> int:
    """The exit code. Raises `Wrong` if it cannot start."""
    files = options.files or (STDIN,)
    paths.check(files, options.output, options.failed, options.unprocessed)
    if options.unprocessed is not None:  # the module or the function may change the folder
        options = replace(options, unprocessed=os.path.abspath(options.unprocessed))  # noqa: PTH100 - keeps links
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))  # what the module or the function prints is no result
        call = load(options.target)
        function = Function(options.target, call, decoder(call, options.target))
        _check_executor(options, is_async(call))
        registry = _serve_metrics(options.metrics_port, stack)
        job = _job(options, files, function, registry)
        stack.callback(job.close)
        stack.enter_context(signals(job.events))
        result = _run(job, options, files)
    if not job.quiet:
        for sentence in result.sentences():
            _say(sentence)
    if _may_be_stuck(job, options):
        sys.stderr.flush()
        os._exit(result.exit_code)  # what is stuck may hold something that an orderly exit waits for
    return result.exit_code


def _check_executor(options: Options, awaited: bool) -> None:
    name = options.executor
    if name is not None and awaited:
        raise Wrong(f"--executor {name}: TARGET {options.target!r} is async, and runs as tasks: leave --executor out")


def _may_be_stuck(job: Job, options: Options) -> bool:
    """Something may still run; never a process, which was killed. What took too long may have left a thread behind."""
    if options.executor == "process":
        return False
    return job.given_up or (
        options.timeout_per_item is not None and (job.writer.tally.failed > 0 or job.stats.retries > 0)
    )


def _run(job: Job, options: Options, files: tuple[str, ...]) -> Result:
    draw: AbstractContextManager[None] = nullcontext()
    if sys.stderr.isatty() if options.progress is None else options.progress:
        from workpool.cli.progress import progress

        draw = progress(job, total_bytes(files))
    began = monotonic()
    try:
        job.start()
    except RuntimeError as error:  # the system has no more threads
        raise Wrong(f"--workers {options.workers}: {error}") from None
    with draw:
        job.run()
    seconds = monotonic() - began
    trouble = list(job.trouble)
    left = _keep(options.unprocessed, _left(job, trouble), trouble)
    return Result(
        job.writer.tally,
        left,
        len(job.maybe_run),
        job.waited,
        job.stats.retries,
        seconds,
        trouble,
        options.failed,
        options.unprocessed,
        job.reader.cut_off,
    )


def _job(options: Options, files: tuple[str, ...], function: Function, registry: CollectorRegistry | None) -> Job:
    # Failures are reported by us. Each with its traceback, in the log, would drown everything else.
    logging.getLogger("workpool").setLevel(logging.CRITICAL)  # of this process, which is ours

    settings = Settings(
        options.workers, options.queue_size, options.executor, options.timeout_per_item, options.retry, registry
    )
    return Job(
        files,
        partial(make_pool, settings, function),
        paths.open_sink(options.output, "--output"),
        None if options.failed is None else paths.open_sink(options.failed, "--failed"),
        window=window(settings),
        ordered=options.ordered,
        timeout=options.timeout,
        note=_say,
    )


def _serve_metrics(port: int | None, stack: ExitStack) -> CollectorRegistry | None:
    if port is None:
        return None
    try:
        registry, port, end = metrics.serve(port)
    except OSError as error:
        raise Wrong(f"--metrics-port {port}: {error.strerror}; 0 takes a free port") from None
    stack.callback(end)
    _say(f"metrics at http://127.0.0.1:{port}/metrics")
    return registry


def _left(job: Job, trouble: list[str]) -> Iterator[bytes]:
    """The lines that were not processed, as they came, in their order."""

    def complain(error: OSError) -> None:
        sentence = f"cannot read {error.filename}: {error.strerror}"
        if sentence not in trouble:
            trouble.append(sentence)

    def groups() -> Iterator[Iterable[bytes]]:
        for seq in sorted(job.in_flight):
            yield (job.in_flight[seq].raw,)
        yield from job.reader.rest(complain)

    return joined(groups())


def _keep(path: str | None, chunks: Iterator[bytes], trouble: list[str]) -> leftover.Left:
    if path is None:
        return leftover.count(chunks)
    try:
        return leftover.save(path, chunks)
    except OSError as error:
        trouble.append(f"--unprocessed {path}: {error.strerror}; the lines that are left are lost")
        return leftover.count(chunks)


def _say(sentence: str) -> None:
    try:
        sys.stderr.write(f"workpool: {sentence}\n")
    except OSError:
        pass  # nobody reads it

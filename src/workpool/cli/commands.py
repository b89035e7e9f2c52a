"""`workpool` and its subcommands: the options, and the one place that prints what is wrong."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import click

from workpool.cli.run import Options, run
from workpool.cli.wrong import Wrong
from workpool.pool import DEFAULT_QUEUE_SIZE, DEFAULT_STOP_TIMEOUT, DEFAULT_WORKERS

__all__ = ["run_command"]


def run_command(arguments: Sequence[str]) -> int:
    """Run `workpool` with these arguments; the exit code."""
    try:
        if not arguments:
            sys.stderr.write(workpool.get_help(click.Context(workpool, info_name="workpool")) + "\n")
            return 2
        code: object = workpool.main(list(arguments), prog_name="workpool", standalone_mode=False)
    except Wrong as wrong:
        return _wrong(str(wrong))
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "workpool"
        return _wrong(f"{error.format_message().rstrip('.')} (see {command} --help)")
    except click.ClickException as error:
        return _wrong(error.format_message())
    except click.Abort:  # Ctrl-C before anything was started
        return 3
    return code if isinstance(code, int) else 0


def _wrong(sentence: str) -> int:
    sys.stderr.write(f"workpool: {' '.join(sentence.split())}\n")
    return 2


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="workpool", message="%(prog)s %(version)s")
def workpool() -> None:
    """A bounded worker pool for the command line."""


def _finite_or_none(_context: click.Context, _parameter: click.Parameter, seconds: float | None) -> float | None:
    if seconds is not None and math.isnan(seconds):
        raise click.BadParameter("nan is not a number of seconds.")
    return seconds


@workpool.command("run", short_help="Run a function on every line of files, or of standard input.")
@click.argument("target", metavar="TARGET")
@click.argument("files", metavar="[FILE]...", nargs=-1)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    default=DEFAULT_WORKERS,
    show_default=True,
    help="How many threads or processes run the function; or tasks, if it is async.",
)
@click.option(
    "--queue-size",
    metavar="N",
    type=click.IntRange(min=1),
    default=DEFAULT_QUEUE_SIZE,
    show_default=True,
    help="How many lines may wait for a worker; reading waits for room.",
)
@click.option(
    "--executor",
    type=click.Choice(["thread", "process"]),
    help="Where the function runs.  [default: thread; an async function: always tasks]",
)
@click.option(
    "--timeout-per-item",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    callback=_finite_or_none,
    help="How long a line may run; then it failed.  [default: no limit]",
)
@click.option("--output", metavar="FILE", default="-", help="Add the results to FILE.  [default: standard output]")
@click.option("--ordered", is_flag=True, help="Write results in the order of the lines, not as they finish.")
@click.option(
    "--failed",
    metavar="FILE",
    help='Add each line that failed to FILE, as JSON: {"file", "line", "input", "error"}.',
)
@click.option(
    "--unprocessed",
    metavar="FILE",
    help="Write the lines that a stop left undone to FILE, as they came, to run again on; empty if there are "
    "none. It may be the FILE that is read.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=DEFAULT_STOP_TIMEOUT,
    show_default=True,
    callback=_finite_or_none,
    help="How long a stop waits for the lines that were accepted.",
)
@click.option(
    "--metrics-port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    help="Serve Prometheus metrics on 127.0.0.1:PORT while it runs; 0 takes a free port.",
)
@click.option("--progress/--no-progress", default=None, help="Draw a progress bar.  [default: if stderr is a terminal]")
def _run(**options: Any) -> int:
    """Run TARGET, a function named as package.module:function, on every line of the FILEs, or of standard
    input (-, or no FILE). The current folder can be imported from.

    \b
    The type of the function's first parameter says what it gets:
      str (or none declared), bytes   the line, without its ending
      anything else                   the line read as JSON: int, dict, list[int],
                                      dataclasses, TypedDicts, pydantic models, ...

    What it returns is written as one line of JSON, None is not written. What it prints goes to stderr.
    A line that cannot be read, or for which the function raises, failed; the others go on.
    An async function runs on an event loop; at the end of a stop's --timeout its calls are cancelled.

    Ctrl-C (SIGINT), SIGTERM or SIGHUP stops reading and finishes what was accepted; a second one aborts.
    Every line ends up in exactly one of: the results, --failed, --unprocessed. As --output and --failed are
    added to, running the same command again on the --unprocessed file finishes the job.

    \b
    Exit codes: 0 all done, 1 some lines failed, 2 wrong use, 3 not all lines were processed.

    \b
    Example:
      find . -type f | workpool run examples.checksums:checksum --workers 8 --output sums.jsonl
    """
    return run(Options(**options))  # click has checked them

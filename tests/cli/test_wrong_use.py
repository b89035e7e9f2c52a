"""Whatever is wrong is one sentence on stderr, and exit code 2; nothing was started or written."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.kit import SECONDS, Ended, Nursery, command, run, sentences

BROKEN = """
from __future__ import annotations
import functools
from typing import TYPE_CHECKING
from pydantic import BaseModel
if TYPE_CHECKING:
    from decimal import Decimal

class Opaque: ...
class Unfinished(BaseModel):
    field: "Missing"

number = 5
async def generator(line):
    yield line
class Generator:
    async def __call__(self, line):
        yield line
called = Generator()
partly = functools.partial(generator)
def nothing(): ...
def only_named(*, line): ...
def two(one: str, other: str): ...
def named_too(one: str, *, other: str): ...
def opaque(item: Opaque): ...
def unfinished(item: Unfinished): ...
def checked_only(item: Decimal): ...
def fine(line: str) -> Decimal: return line
"""


@pytest.fixture
def broken(folder: Path) -> Path:
    (folder / "broken.py").write_text(BROKEN)
    (folder / "raises.py").write_text("def f(x):\n    raise ValueError('at\\nonce')\nf(1)\n")
    (folder / "exits.py").write_text("import sys\nsys.exit('bye')\n")
    (folder / "syntax.py").write_text("def f(:\n")
    (folder / "needs.py").write_text("import not_there_either\n")
    (folder / "folder").mkdir()
    (folder / "in.txt").write_bytes(b"1\n")
    (folder / "link").symlink_to("in.txt")
    return folder


def check(ended: Ended, *words: str) -> None:
    (sentence,) = sentences(ended)
    assert sentence.startswith("workpool: ")
    assert [word for word in words if word not in sentence] == [], sentence
    assert (ended.code, ended.out) == (2, b"")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("functions", ["'functions'", "package.module:function"]),
        (":same", ["package.module:function"]),
        ("functions:", ["package.module:function"]),
        ("not_there:f", ["no module 'not_there'", "current folder", "nor installed"]),
        ("functions.not_there:f", ["no module 'functions.not_there'"]),
        ("raises:f", ["importing 'raises' failed", "raises.py:2", "ValueError: at once"]),
        ("exits:f", ["importing 'exits' failed", "exits.py:2", "SystemExit: bye"]),
        ("syntax:f", ["importing 'syntax' failed", "syntax.py:1", "SyntaxError"]),
        ("needs:f", ["importing 'needs' failed", "needs.py:1", "not_there_either"]),
        ("functions:not_there", ["no 'not_there' in module 'functions'", "functions.py"]),
        ("functions:same.inner", ["no 'inner'"]),
        ("broken:number", ["not a function", "int"]),
        ("broken:generator", ["'broken:generator' is an async generator", "plain or async", "one result"]),
        ("broken:called", ["async generator"]),
        ("broken:partly", ["async generator"]),
        ("broken:nothing", ["no parameter"]),
        ("broken:only_named", ["no parameter"]),
        ("broken:two", ["one argument", "one, other"]),
        ("broken:named_too", ["one argument", "one, other"]),
        ("broken:opaque", ["'item'", "Opaque", "pydantic models"]),
        ("broken:unfinished", ["'item'", "Unfinished", "pydantic models"]),
        ("broken:checked_only", ["'item'", "Decimal", "at run time"]),
        ("builtins:int", ["wrap it in a function"]),
    ],
)
def test_wrong_targets(nursery: Nursery, broken: Path, target: str, words: list[str]) -> None:
    check(nursery.run(broken, target, "in.txt", "--output", "out"), "TARGET", *words)
    assert not (broken / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", ["TARGET", "workpool run --help"]),
        ("functions:same missing.txt", ["FILE 'missing.txt'", "No such file"]),
        ("functions:same in.txt folder", ["FILE 'folder'", "is a folder"]),
        ("functions:same in.txt --output folder", ["--output 'folder'", "is a folder"]),
        ("functions:same in.txt --failed folder", ["--failed 'folder'", "is a folder"]),
        ("functions:same in.txt --unprocessed folder", ["--unprocessed 'folder'", "is a folder"]),
        ("functions:same in.txt --output no/out", ["--output 'no/out'", "no folder", "make it first"]),
        ("functions:same in.txt --failed no/out", ["--failed 'no/out'", "no folder"]),
        ("functions:same in.txt --unprocessed no/out", ["--unprocessed 'no/out'", "no folder"]),
        ("functions:same in.txt --output in.txt/out", ["--output 'in.txt/out'", "Not a directory"]),
        ("functions:same in.txt --failed -", ["--failed '-'", "name a file"]),
        ("functions:same in.txt --output link", ["--output and FILE 'in.txt'", "same file"]),
        ("functions:same in.txt --failed in.txt", ["--failed and FILE 'in.txt'", "same file"]),
        ("functions:same in.txt --failed new --output folder/../new", ["--output and --failed", "same file"]),
        ("functions:same in.txt --failed new --unprocessed new", ["--failed and --unprocessed", "same file"]),
        ("functions:same --workers 0", ["--workers", "0", "x>=1", "--help"]),
        ("functions:same --workers many", ["--workers", "'many'"]),
        ("functions:same --queue-size 0", ["--queue-size"]),
        ("functions:same --timeout -1", ["--timeout"]),
        ("functions:same --timeout nan", ["--timeout", "nan"]),
        ("functions:same --metrics-port 70000", ["--metrics-port", "70000"]),
        ("functions:same --nonsense", ["--nonsense"]),
    ],
)
def test_wrong_files_and_options(nursery: Nursery, broken: Path, arguments: str, words: list[str]) -> None:
    before = sorted(broken.iterdir())
    check(nursery.run(broken, *arguments.split()), *words)
    assert sorted(path for path in broken.iterdir() if path.name != "__pycache__") == before
    assert (broken / "in.txt").read_bytes() == b"1\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_files_without_permission(broken: Path) -> None:
    (broken / "in.txt").chmod(0)
    check(run(broken, "functions:same", "in.txt"), "FILE 'in.txt'", "Permission denied")
    check(run(broken, "functions:same", "--output", "in.txt"), "--output 'in.txt'", "Permission denied")


@pytest.mark.parametrize(
    ("redirection", "words"),
    [("<&-", "standard input is closed"), (">&-", "standard output is closed")],
)
def test_standard_streams_that_are_none(broken: Path, redirection: str, words: str) -> None:
    shell = ["bash", "-c", f'exec "$@" {redirection}', "bash", *command("functions:same")]
    done = subprocess.run(shell, cwd=broken, capture_output=True, timeout=SECONDS)
    check(Ended(done.returncode, done.stdout, done.stderr.decode()), words)


def test_a_port_that_is_taken(nursery: Nursery, broken: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        check(
            nursery.run(broken, "functions:same", "in.txt", "--metrics-port", port), f"--metrics-port {port}", "in use"
        )


def test_annotations_for_type_checkers_only_do_no_harm_where_they_are_not_needed(
    nursery: Nursery, broken: Path
) -> None:
    assert nursery.run(broken, "broken:fine", "in.txt").out == b'"1"\n'


@pytest.mark.parametrize("missing", ["click", "pydantic", "rich", "prometheus_client"])
def test_without_the_extra_it_says_what_to_install(folder: Path, missing: str) -> None:
    program = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
from workpool.cli import main
sys.exit(main(["run", "functions:same"]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, timeout=SECONDS)
    check(Ended(done.returncode, done.stdout, done.stderr.decode()), missing, "pip install 'workpool[cli]'")


def test_nothing_at_all_shows_the_help(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "workpool"], capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stdout) == (2, "")
    assert "\n  run " in done.stderr.partition("Commands:")[2]
    ended = run(folder, "--help")
    assert (ended.code, ended.err) == (0, "")
    for option in ("--workers", "--unprocessed", "--metrics-port", "Exit codes:"):
        assert option in ended.out.decode()

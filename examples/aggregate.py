"""Counts what is in a folder of Python files, by default the standard library: work for the processor.

python -m examples.aggregate --executor process --workers 2
"""

from __future__ import annotations

import argparse
import ast
import sysconfig
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Literal

from workpool import Pool

Kind = Literal["thread", "process", "interpreter"]
KINDS: tuple[Kind, ...] = ("thread", "process", "interpreter")


@dataclass(slots=True)
class Summary:
    """What is in one file, or in several."""

    files: int = 0
    unreadable: int = 0
    functions: int = 0
    classes: int = 0
    longest: tuple[int, str] = (0, "")
    """Lines, and where."""
    imports: Counter[str] = field(default_factory=Counter[str])

    def add(self, other: Summary) -> None:
        self.files += other.files
        self.unreadable += other.unreadable
        self.functions += other.functions
        self.classes += other.classes
        self.longest = max(self.longest, other.longest)
        self.imports.update(other.imports)


def summarize(path: str) -> Summary:
    """The process function: at the top level of the module, as a worker elsewhere must be able to import it."""
    summary = Summary(files=1)
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (SyntaxError, ValueError, OSError):
        return Summary(files=1, unreadable=1)
    for node in ast.walk(tree):
        _count(node, path, summary)
    return summary


def _count(node: ast.AST, path: str, summary: Summary) -> None:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            summary.functions += 1
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            summary.longest = max(summary.longest, (lines, f"{path}:{node.lineno} {node.name}"))
        case ast.ClassDef():
            summary.classes += 1
        case ast.Import():
            summary.imports.update(alias.name.partition(".")[0] for alias in node.names)
        case ast.ImportFrom(module=str(module), level=0):
            summary.imports[module.partition(".")[0]] += 1
        case _:
            pass


def aggregate(folder: Path, executor: Kind, workers: int) -> Summary:
    """The sum over all Python files below `folder`, without what was installed."""
    total = Summary()
    paths = sorted(str(path) for path in folder.rglob("*.py") if "site-packages" not in path.relative_to(folder).parts)
    with Pool(summarize, workers=workers, executor=executor, name="aggregate") as pool:
        for summary in pool.map(paths):
            total.add(summary)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description="Count what is in the Python files of a folder.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(sysconfig.get_path("stdlib")))
    parser.add_argument("--executor", choices=KINDS, default="process", help="who parses (default process)")
    parser.add_argument("--workers", type=int, default=2, help="how many (default 2)")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    began = perf_counter()
    try:
        total = aggregate(options.folder, options.executor, options.workers)
    except ValueError as error:
        parser.error(str(error))
    print(f"{total.files} files, of which {total.unreadable} cannot be parsed")
    print(f"{total.functions} functions, {total.classes} classes")
    print(f"the longest function: {total.longest[0]} lines, {total.longest[1]}")
    top = sorted(total.imports.items(), key=lambda pair: (-pair[1], pair[0]))[:5]
    print("imported most: " + ", ".join(f"{name} ({count})" for name, count in top))
    print(f"{perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()

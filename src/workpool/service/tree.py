"""YAML as a tree that knows where each thing stands.

PyYAML's own nodes are read, never constructed: nothing in a file is run, whatever its tags. What YAML takes for
something else than it looks like (`1:30` is 90 to it, `010` is 8, a second key wins) is a problem, not a value. Keys
are the text that is written, whatever YAML makes of `on`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, nan
from typing import Any, Final, TypeAlias

import yaml

from workpool.service.problems import Place, Problem, shown, step

__all__ = ["Mapping", "Node", "Scalar", "Sequence", "read", "reading_text"]

Value: TypeAlias = str | int | float | bool | None


@dataclass(slots=True)
class Scalar:
    """A word or a number."""

    place: Place
    value: Value
    written: str
    plain: bool = False
    """Without quotes: what it means is YAML's guess."""


@dataclass(slots=True)
class Sequence:
    """A list."""

    place: Place
    items: list[Node] = field(default_factory=list["Node"])


@dataclass(slots=True)
class Mapping:
    """Keys and what they stand for."""

    place: Place
    items: dict[str, Node] = field(default_factory=dict[str, "Node"])
    keys: dict[str, Place] = field(default_factory=dict[str, Place])
    """Where each key stands."""


Node: TypeAlias = Scalar | Sequence | Mapping

MOST: Final = 20_000
"""So many nodes there may be, with each alias written out: a few lines of aliases of aliases are billions."""

TAG: Final = "tag:yaml.org,2002:"
BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
UNPRINTABLE: Final = re.compile(
    "[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
"""As PyYAML has it, but for a byte order mark in the middle."""
NOTHING: Final = "the file is empty; it needs worker_pools: {NAME: {process: package.module:function}}"


class Stop(Exception):
    """There is no tree. The text is the problem."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(place, "", text)


def read(name: str, content: bytes, problems: list[Problem]) -> Node | None:
    """The tree of a file; what is wrong is added to `problems`. None: there is none, for a reason that was added."""
    try:
        return _Reader(name, _decoded(name, content), problems).tree()
    except Stop as stop:
        problems.append(stop.problem)
        return None


def reading_text(source: str, text: str) -> Node:
    """What the text of one setting stands for, such as the value of an environment variable: text, if nothing else."""
    here = Place(0, 0, source)
    problems: list[Problem] = []
    try:
        node = None if UNPRINTABLE.search(text) else _Reader(source, text, problems, here).tree()
    except Stop:
        node = None
    is_text = node is None or problems or (isinstance(node, Scalar) and isinstance(node.value, str))
    return Scalar(here, text, text, plain=True) if node is None or is_text else node


def _decoded(name: str, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Without the byte order mark, if there is one: `start` is counted after it.
        body = content.removeprefix(b"\xef\xbb\xbf")
        place = _place(name, body[: error.start].decode("utf-8", "replace"))
        raise Stop(
            place, f"byte 0x{body[error.start]:02x} is not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from None
    bad = UNPRINTABLE.search(text)
    if bad:
        sign = "a NUL byte" if bad[0] == "\0" else f"the character U+{ord(bad[0]):04X}"
        raise Stop(
            _place(name, text[: bad.start()]),
            f'there is {sign}, which YAML does not allow; take it out, or write it in double quotes as "\\uNNNN"',
        )
    return text


def _place(name: str, before: str) -> Place:
    lines = BREAK.split(before)
    return Place(len(lines), len(lines[-1]) + 1, name)


class _Reader:
    """One text."""

    def __init__(self, name: str, text: str, problems: list[Problem], here: Place | None = None) -> None:
        self._name = name
        self._here = here
        """Everything stands here."""
        self._lines = BREAK.split(text)
        self._text = text
        self._problems = problems
        self._open: set[int] = set()
        """The nodes that are being read, to notice one that is in itself."""
        self._count = 0

    def tree(self) -> Node:
        loader = yaml.SafeLoader(self._text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise Stop(Place(1, 1, self._name), NOTHING)
            return self._node(node, "")
        except yaml.MarkedYAMLError as error:
            raise Stop(self._at(error.problem_mark or error.context_mark), _syntax(error)) from None
        except RecursionError:
            raise Stop(Place(1, 1, self._name), "it is nested too deeply to be a configuration") from None
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            # PyYAML makes characters and numbers of what is written without looking whether there is such a one.
            raise Stop(self._clamped(loader.line, loader.column), f"it is not YAML: {error}") from None
        finally:
            loader.dispose()

    def _at(self, mark: yaml.Mark | None) -> Place:
        return Place(1, 1, self._name) if mark is None else self._clamped(mark.line, mark.column)

    def _clamped(self, line: int, column: int) -> Place:
        """A place in the text. Its end, which is on a line of its own to PyYAML, is that of its last line."""
        if self._here is not None:
            return self._here
        last = len(self._lines) - 1
        if last and not self._lines[last]:  # the end of the text, after its last line break
            last -= 1
        if line > last:
            line, column = last, len(self._lines[last])
        return Place(line + 1, column + 1, self._name)

    def _wrong(self, node: yaml.Node, path: str, text: str) -> None:
        self._problems.append(Problem(self._at(node.start_mark), path, text))

    def _node(self, node: yaml.Node, path: str) -> Node:
        self._count += 1
        if self._count > MOST:
            raise Stop(self._at(node.start_mark), f"it has more than {MOST} values, with each alias (*) written out")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            self._wrong(node, path, "it contains itself, through an alias (*); write it out")
            return Scalar(self._at(node.start_mark), None, "")
        self._open.add(id(node))
        try:
            return self._mapping(node, path) if isinstance(node, yaml.MappingNode) else self._sequence(node, path)
        finally:
            self._open.discard(id(node))

    def _sequence(self, node: Any, path: str) -> Sequence:
        if node.tag != TAG + "seq":
            self._tag(node, path)
        return Sequence(
            self._at(node.start_mark), [self._node(item, step(path, at)) for at, item in enumerate(node.value)]
        )

    def _mapping(self, node: yaml.MappingNode, path: str) -> Mapping:
        if node.tag != TAG + "map":
            self._tag(node, path)
        mapping = Mapping(self._at(node.start_mark))
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == TAG + "merge":
                merged.append(value_node)
                continue
            key = self._key(key_node, path)
            if key is None:
                continue
            place = self._at(key_node.start_mark)
            if key in mapping.keys:
                first = mapping.keys[key].line
                self._problems.append(
                    Problem(place, step(path, key), f"a second key of this name, after line {first}; keep one of them")
                )
            mapping.keys[key], mapping.items[key] = place, self._node(value_node, step(path, key))
        for source in merged:
            self._merge(mapping, source, path)
        return mapping

    def _merge(self, mapping: Mapping, source: yaml.Node, path: str) -> None:
        """`<<: *other`: what is not there already."""
        for one in source.value if isinstance(source, yaml.SequenceNode) else [source]:
            if not isinstance(one, yaml.MappingNode):
                self._wrong(one, path, "<< takes in a mapping (*alias), or a list of them")
                continue
            other = self._node(one, path)
            assert isinstance(other, Mapping | Scalar)
            if isinstance(other, Mapping):
                mapping.keys = {**other.keys, **mapping.keys}
                mapping.items = {**other.items, **mapping.items}

    def _key(self, node: yaml.Node, path: str) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._wrong(node, path, "a key must be a word, not a list or a mapping; {...} is for values")
            return None
        if node.value or node.style:
            return str(node.value)  # as it is written: a key is text, also `on` and `no`
        self._wrong(node, path, "there is a value without a key before its colon; name it")
        return None

    def _scalar(self, node: yaml.ScalarNode, path: str) -> Scalar:
        written = str(node.value)
        scalar = Scalar(self._at(node.start_mark), written, written, plain=not node.style)
        kind = node.tag.removeprefix(TAG)
        if kind in ("str", "timestamp", "value"):  # a date is the text that it looks like, and so is `=`
            return scalar
        if node.tag not in READ:
            self._tag(node, path)
            return scalar
        try:
            scalar.value = READ[node.tag](written)
        except (ValueError, KeyError) as error:
            reason = (
                str(error) if isinstance(error, _Trap) else f"{shown(written)} is not of the type that its tag says"
            )
            self._wrong(node, path, reason)
        return scalar

    def _tag(self, node: yaml.Node, path: str) -> None:
        short = node.tag.replace(TAG, "!!")
        self._wrong(node, path, f"the tag {shown(short)} has no meaning here; leave it out")


class _Trap(ValueError):
    """YAML reads it as what nobody means."""


def _flag(written: str) -> bool:
    return {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}[written.lower()]


def _int(written: str) -> int:
    digits = written.replace("_", "").lower()
    if ":" in digits:
        raise _Trap(_sixties(written))
    if re.fullmatch(r"[-+]?0[0-7]+", digits):
        raise _Trap(f"{shown(written)} is {int(digits, 8)} to YAML, in base 8; write it without the 0 in front")
    return int(digits, 0)


def _float(written: str) -> float:
    digits = written.replace("_", "").lower()
    if ":" in digits:
        raise _Trap(_sixties(written))
    return {".inf": inf, "+.inf": inf, "-.inf": -inf, ".nan": nan}[digits] if digits[-1] in "fn" else float(digits)


def _sixties(written: str) -> str:
    """What is to be said of `1:30`."""
    number = 0.0
    for digits in written.replace("_", "").lstrip("+-").split(":"):
        number = number * 60 + float(digits)
    duration = "{}m{}s".format(*written.split(":")) if written.count(":") == 1 else f"{number:g}s"
    return (
        f"{shown(written)} is the number {number:g} to YAML, in base 60; write {shown(duration)} for a duration, "
        f'or "{shown(written)}" in quotes for text'
    )


READ: Final[dict[str, Callable[[str], Value]]] = {
    TAG + "bool": _flag,
    TAG + "int": _int,
    TAG + "float": _float,
    TAG + "null": lambda _: None,
}


def _syntax(error: yaml.MarkedYAMLError) -> str:
    """One sentence about what is no YAML."""
    said = ", ".join(part for part in (error.context, error.problem) if part)
    return f"it is not YAML: {_printable(said)}{_hint(said)}"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


HINTS: Final = (
    (r"'\\\\?t'|\\t", "YAML indents with spaces, not with tabs"),
    (r"mapping values are not allowed", 'put text with ": " in it into quotes, or mend the indentation'),
    (r"could not find expected ':'", "a key is followed by a colon and a space"),
    (r"'%'|'@'|'`'", "put text that begins with such a sign into quotes"),
    (r"undefined alias", "an alias (*name) needs its anchor (&name) above it"),
    (r"expected a single document", "take out the --- after the first document"),
    (r"expected <block end>", "mend the indentation: keys of one mapping begin in one column"),
    (r"end of stream|flow", "close the quote or the bracket"),
)


def _hint(said: str) -> str:
    return next((f"; {hint}" for pattern, hint in HINTS if re.search(pattern, said)), "; mend what stands there")

"""Objects that are alive, gone through while others come and go."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterator

import pytest

from workpool._living import Living


class Thing:
    """Something that is collected when nobody holds it."""


@pytest.fixture
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_it_keeps_nothing_alive_and_forgets_what_is_not() -> None:
    living: Living[Thing] = Living()
    first, second = Thing(), Thing()
    living.add(first)
    living.add(second)
    assert living.all() == [first, second]
    gone = weakref.ref(first)
    del first
    assert gone() is None
    assert living.all() == [second]


@pytest.mark.usefixtures("switching_often")
def test_it_is_gone_through_while_others_come_and_go_in_other_threads() -> None:
    living: Living[Thing] = Living()
    stays = Thing()
    living.add(stays)
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            for _ in range(100):
                living.add(Thing())

    threads = [threading.Thread(target=come_and_go) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2_000):
            assert living.all()[0] is stays
    finally:
        over.set()
        for thread in threads:
            thread.join(20)

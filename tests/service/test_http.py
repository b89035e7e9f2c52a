"""What the application answers, each route and each status, asked without a socket."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePosixPath
from threading import Lock
from typing import Any
from urllib.parse import unquote

import pytest
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from tests.metrics.scraping import parse
from tests.service.asking import Message, Reply, ask
from workpool import Pool
from workpool.service import page
from workpool.service.application import Application
from workpool.service.http import Limits
from workpool.testing import Leash, Recorder

TOKEN = "s3cret"
BEARER = [("Authorization", f"Bearer {TOKEN}")]


def echo(number: int) -> int:
    return number


class Held:
    """A pool of one worker, which is held by one item, and a queue for one more."""

    def __init__(self, **options: Any) -> None:
        self.leash: Leash[int] = Leash()
        self.pool = Pool(_of_int(self.leash), workers=1, queue_size=1, name="held", **options)

    def __enter__(self) -> Held:
        self.pool.start()
        self.pool.submit(1)
        self.leash.wait_begun(1)
        return self

    def __exit__(self, *_: object) -> None:
        self.leash.let_go()
        self.pool.stop(20)


def _of_int(leash: Leash[int]) -> Callable[[int], int]:
    def process(number: int) -> int:
        return leash.process(number)

    return process


@pytest.fixture
def held() -> Iterator[Held]:
    with Held() as held:
        yield held


@pytest.fixture
def pool() -> Iterator[Pool[int, int]]:
    with Pool(echo, workers=2, queue_size=5, name="echo") as pool:
        yield pool


def get(application: Application, path: str, *headers: tuple[str, str], method: str = "GET") -> Reply:
    reply = ask(application, method, path, headers=headers)
    assert reply is not None
    return reply


def post(
    application: Application, path: str, body: object = b"", headers: list[tuple[str, str]] | None = None
) -> Reply:
    reply = ask(application, "POST", path, body, headers or [])
    assert reply is not None
    return reply


# -- the page ------------------------------------------------------------------------------------------------


KINDS = {"": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@pytest.mark.parametrize(("path", "kind"), [(path, KINDS[PurePosixPath(path).suffix]) for path in page.FILES])
def test_the_page_is_of_files_and_may_run_nothing_else(path: str, kind: str) -> None:
    reply = get(Application({}), path)
    assert (reply.status, reply.headers["content-type"].partition(";")[0]) == (200, kind)
    assert "default-src 'none'; script-src 'self'" in reply.headers["content-security-policy"]
    assert "unsafe" not in reply.headers["content-security-policy"]
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_the_page_has_no_script_style_or_address_of_its_own() -> None:
    markup = get(Application({}), "/").body.decode()
    assert "<script>" not in markup
    assert "style=" not in markup
    assert not re.search(r"\son\w+=", markup)
    assert "//" not in markup


@pytest.mark.parametrize("path", [path for path in page.FILES if path.endswith(".js")])
def test_a_script_makes_no_markup_and_asks_no_other_host(path: str) -> None:
    script = get(Application({}), path).body.decode()
    assert "HTML" not in script
    assert script.count("http") == script.count("http://www.w3.org/2000/svg")  # a name, not an address


def test_each_file_of_the_page_is_served_and_each_served_is_there() -> None:
    there = {each.name for each in (files("workpool.service") / "static").iterdir()}
    assert there == {name for name, _ in page.FILES.values()}


# -- probes --------------------------------------------------------------------------------------------------


def test_it_lives() -> None:
    assert get(Application({}), "/livez").json == {"status": "alive"}


def test_it_is_ready_while_its_pools_run() -> None:
    pool = Pool(echo, name="echo")
    application = Application({"echo": pool})
    assert get(application, "/readyz").error == (503, "not_ready")
    assert get(application, "/readyz").json["detail"] == "pool 'echo' is not started"
    with pool:
        assert get(application, "/readyz").json == {"status": "ready"}
        pool.pause()
        assert get(application, "/readyz").status == 200  # it still accepts
        pool.resume()
    assert get(application, "/readyz").json["detail"] == "pool 'echo' is stopped"


def test_it_is_not_ready_while_a_pool_drains(held: Held) -> None:
    application = Application({"held": held.pool})
    held.pool.close()
    assert get(application, "/readyz").json == {"error": "not_ready", "detail": "pool 'held' is draining"}
    assert get(application, "/livez").status == 200


def test_whoever_owns_it_may_have_a_reason_too() -> None:
    reasons = ["the service stops", ""]
    application = Application({}, readiness=lambda: reasons.pop(0))
    assert get(application, "/readyz").json == {"error": "not_ready", "detail": "the service stops"}
    assert get(application, "/readyz").status == 200


# -- metrics -------------------------------------------------------------------------------------------------

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (OPENMETRICS, "openmetrics"),
        ("application/openmetrics-text", "openmetrics"),
        ("text/plain;q=0.9,application/openmetrics-text;q=0.1", "text"),
        ("application/openmetrics-text;q=0", "text"),
        ("application/openmetrics-text;q=\xff", "text"),
        ("text/html,*/*;q=0.8", "text"),
        ("", "text"),
    ],
)
def test_a_scrape_is_answered_in_the_form_that_it_asks_for(accept: str, form: str, pool: Pool[int, int]) -> None:
    pool.call(1).result(20)
    pool.join(20)
    reply = get(Application({"echo": pool}), "/metrics", ("Accept", accept))
    kinds = {"openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8"}
    assert reply.headers["content-type"] == kinds.get(form, "text/plain; version=0.0.4; charset=utf-8")
    scrape = parse(reply.body.decode(), form)
    assert scrape.value("workpool_submitted_total", pool="echo") == 1
    assert scrape.value("workpool_queue_capacity", pool="echo") == 5


def test_a_registry_of_somebody_else_is_shown_instead() -> None:
    registry = CollectorRegistry()
    with Pool(echo, name="echo", metrics=registry, metrics_prefix="mine") as pool:
        reply = get(Application({"echo": pool}, registry=registry), "/metrics")
    assert {"mine_submitted_total", "workpool_submitted_total"} <= parse(reply.body.decode(), "text").names()


def test_two_pools_of_one_name_could_not_be_told_apart() -> None:
    with pytest.raises(ValueError, match="two pools are named 'echo'"):
        Application({"a": Pool(echo, name="echo"), "b": Pool(echo, name="echo")})


# -- pools as JSON -------------------------------------------------------------------------------------------


def test_the_pools_are_what_their_stats_say(pool: Pool[int, int]) -> None:
    list(pool.map(range(5)))
    other = Pool(echo, name="other")
    seen = get(Application({"echo": pool, "other": other}), "/api/pools").json
    assert seen["pools"] == {"echo": pool.stats().as_dict(), "other": other.stats().as_dict()}
    assert (seen["paused"], seen["control"]) == ([], False)
    pool.pause()
    assert get(Application({"echo": pool}, token=TOKEN), "/api/pools").json["paused"] == ["echo"]
    assert get(Application({"echo": pool}, token=TOKEN), "/api/pools").json["control"] is True


def test_one_pool_has_its_workers_too(held: Held) -> None:
    seen = get(Application({"held": held.pool}), "/api/pools/held").json
    (worker,) = seen["workers"]
    assert seen["stats"]["running"] == 1
    assert seen["paused"] is False
    assert worker["worker"] == "held-0"
    assert (worker["item"], worker["attempt"], worker["stuck"], worker["stack"]) == ("1", 1, False, "")
    assert worker["seconds"] > 0


def test_a_worker_that_looks_stuck_says_where_it_is(held: Held) -> None:
    (worker,) = get(Application({"held": held.pool}, stuck_after=0.0), "/api/pools/held").json["workers"]
    assert worker["stuck"]
    assert "in process" in worker["stack"]


def test_an_idle_worker_runs_nothing(pool: Pool[int, int]) -> None:
    workers = get(Application({"echo": pool}, stuck_after=0.0), "/api/pools/echo").json["workers"]
    assert [(each["item"], each["stuck"]) for each in workers] == [(None, False)] * 2


def test_a_worker_that_was_given_up_is_still_shown() -> None:
    leash: Leash[int] = Leash()
    with Pool(leash.process, workers=1, name="late", item_timeout=0.01) as pool:
        future = pool.call(7)
        assert isinstance(future.exception(20), TimeoutError)
        stuck, *others = get(Application({"late": pool}), "/api/pools/late").json["workers"]
        assert (stuck["item"], stuck["given_up"], stuck["stuck"]) == ("7", True, True)
        assert "in process" in stuck["stack"]
        assert not any(each["given_up"] for each in others)
        leash.let_go()


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("item", ["x" * 100_000, [list(range(100))] * 100, {"key": "y" * 1000}])
def test_a_long_item_is_cut(item: object) -> None:
    leash: Leash[object] = Leash()
    with Pool(leash.process, workers=1, name="long") as pool:
        pool.submit(item)
        leash.wait_begun(1)
        (worker,) = get(Application({"long": pool}), "/api/pools/long").json["workers"]
        leash.let_go()
    assert 20 < len(worker["item"]) <= 200
    assert "..." in worker["item"]


def test_an_item_that_cannot_be_printed_hides_nothing_else() -> None:
    leash: Leash[object] = Leash()
    with Pool(leash.process, workers=1, name="odd") as pool:
        pool.submit(Unprintable())
        leash.wait_begun(1)
        (worker,) = get(Application({"odd": pool}), "/api/pools/odd").json["workers"]
        leash.let_go()
    assert worker["item"].startswith("<Unprintable")


@pytest.mark.parametrize("name", ["a/b", "<b>&'\"", "ü ñ"])
def test_any_name_can_be_in_a_path(name: str) -> None:
    with Pool(echo, name=name) as pool:
        application = Application({name: pool}, token=TOKEN)
        assert get(application, f"/api/pools/{name}").json["stats"]["pool"] == name
        assert post(application, f"/api/pools/{name}/items", 5).status == 202
        assert post(application, f"/api/pools/{name}/pause", b"", BEARER).status == 200


# -- what is not there ---------------------------------------------------------------------------------------


def test_what_is_not_there_is_not_found(pool: Pool[int, int]) -> None:
    application = Application({"echo": pool}, token=TOKEN)
    for path in ("/nothing", "/api", "/api/pools/", "/metrics/", "/page", "//livez", "/livez\n"):
        assert get(application, path).error == (404, "not_found"), path
    assert get(application, "/api/pools/other").error == (404, "no_such_pool")
    assert post(application, "/api/pools/other/items", 1).error == (404, "no_such_pool")
    assert post(application, "/api/pools/other/pause", b"", BEARER).error == (404, "no_such_pool")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/", "GET, HEAD"),
        ("DELETE", "/metrics", "GET, HEAD"),
        ("PUT", "/api/pools/echo", "GET, HEAD"),
        ("OPTIONS", "/api/pools", "GET, HEAD"),
        ("GET", "/api/pools/echo/items", "POST"),
        ("HEAD", "/api/pools/echo/pause", "POST"),
        ("BREW", "/livez", "GET, HEAD"),
    ],
)
def test_another_method_is_told_which_there_are(method: str, path: str, allowed: str, pool: Pool[int, int]) -> None:
    reply = get(Application({"echo": pool}, token=TOKEN), path, method=method)
    assert reply.status == 405
    assert reply.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/", "/metrics", "/livez", "/readyz", "/api/pools", "/api/pools/echo", "/nothing"])
def test_head_is_get_without_a_body(path: str, pool: Pool[int, int]) -> None:
    application = Application({"echo": pool})
    head, whole = get(application, path, method="HEAD"), get(application, path)
    assert head.body == b""
    assert head.status == whole.status
    assert set(head.headers) == set(whole.headers)
    assert int(head.headers["content-length"]) > 0


def test_what_fails_is_logged_and_says_nothing_of_why(caplog: pytest.LogCaptureFixture) -> None:
    def unlucky() -> str:
        raise RuntimeError("a secret")

    reply = get(Application({}, readiness=unlucky), "/readyz")
    assert reply.error == (500, "failed")
    assert b"secret" not in reply.body
    assert "a secret" in caplog.text


# -- items ---------------------------------------------------------------------------------------------------


@dataclass
class Order:
    drink: str
    cups: int = 1


class Label(BaseModel):
    text: str


def of_order(order: Order) -> None: ...
def of_label(label: Label) -> None: ...
def of_text(text: str) -> None: ...
def of_numbers(numbers: list[int]) -> None: ...
def of_anything(item) -> None: ...  # type: ignore[no-untyped-def]
def of_lock(lock: Lock) -> None: ...
def of_nowhere(item: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821
async def of_order_async(order: Order) -> None: ...


@pytest.mark.parametrize(
    ("process", "sent", "item"),
    [
        (of_order, {"drink": "tea", "cups": 2}, Order("tea", 2)),
        (of_order_async, {"drink": "tea"}, Order("tea")),
        (of_label, {"text": "fragile"}, Label(text="fragile")),
        (of_text, "tea", "tea"),
        (of_numbers, [1, 2], [1, 2]),
        (of_anything, {"a": [None]}, {"a": [None]}),
        (Order, "coffee", "coffee"),
        (repr, {"a": 1}, {"a": 1}),
    ],
)
def test_an_item_is_read_as_the_function_wants_it(process: Callable[[Any], Any], sent: object, item: object) -> None:
    pool: Pool[Any, Any] = Pool(process, name="typed")
    taken: list[object] = []
    pool.submit = taken.append  # type: ignore[method-assign, assignment]
    reply = post(Application({"typed": pool}), "/api/pools/typed/items", sent)
    assert (reply.status, reply.json) == (202, {"accepted": True})
    assert taken == [item]


@pytest.mark.parametrize(
    ("process", "body", "error", "words"),
    [
        (of_order, b'{"cups": "many"}', (422, "not_an_item"), "not Order: drink: "),
        (of_order, b'{"cups": "many"}', (422, "not_an_item"), "; cups: "),
        (of_label, b'"tea"', (422, "not_an_item"), "not Label: "),
        (of_text, b"1", (422, "not_an_item"), "not str: "),
        (of_numbers, b'["x"' + b', "x"' * 11 + b"]", (422, "not_an_item"), "and 2 more"),
        (of_order, b"{", (400, "not_json"), "not JSON: "),
        (of_order, b"", (400, "not_json"), "not JSON: "),
        (of_anything, b"tea", (400, "not_json"), "not JSON: "),
        (of_anything, b'"\xff"', (400, "not_json"), "not JSON: "),
        (of_anything, b"[" * 100_000, (400, "not_json"), "not JSON: "),
        (of_lock, b"1", (501, "no_items"), "JSON cannot say"),
        (of_nowhere, b"1", (501, "no_items"), "JSON cannot say"),
    ],
)
def test_what_is_no_item_is_refused_and_says_why(
    process: Callable[[Any], Any], body: bytes, error: tuple[int, str], words: str
) -> None:
    with Pool(process, name="typed") as pool:
        reply = post(Application({"typed": pool}), "/api/pools/typed/items", body)
        assert reply.error == error
        assert words in reply.json["detail"]
        assert pool.stats().offered == 0


def test_an_item_is_run() -> None:
    recorder: Recorder[int, int] = Recorder(echo)
    with Pool(recorder.process, name="echo") as pool:
        application = Application({"echo": pool})
        for number in range(3):
            assert post(application, "/api/pools/echo/items", number).status == 202
        assert pool.join(20)
    assert recorder.items == [0, 1, 2]


def test_a_full_queue_refuses_and_says_when_to_come_back(held: Held) -> None:
    application = Application({"held": held.pool})
    assert post(application, "/api/pools/held/items", 2).status == 202
    refused = post(application, "/api/pools/held/items", 3)
    assert refused.error == (429, "queue_full")
    assert refused.json["retry_after"] > 0
    assert int(refused.headers["retry-after"]) >= 1
    assert held.pool.stats().dropped == 1


def test_a_pool_that_does_not_run_accepts_nothing(held: Held) -> None:
    application = Application({"held": held.pool, "new": Pool(echo, name="new")})
    held.pool.close()
    draining = post(application, "/api/pools/held/items", 2)
    assert draining.error == (503, "not_accepting")
    assert "draining" in draining.json["detail"]
    assert post(application, "/api/pools/new/items", 2).error == (503, "not_accepting")


# -- limits --------------------------------------------------------------------------------------------------

SMALL = Limits(body_bytes=10, body_seconds=0.01)


def chunk(body: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_may_have_so_many_bytes(pool: Pool[int, int]) -> None:
    application = Application({"echo": pool}, limits=SMALL, token=TOKEN)
    assert post(application, "/api/pools/echo/items", b"1" + b" " * 9).status == 202
    assert post(application, "/api/pools/echo/items", b"1" + b" " * 10).error == (413, "too_large")
    assert post(application, "/api/pools/echo/resize", b" " * 11, BEARER).error == (413, "too_large")
    without_length = ask(application, "POST", "/api/pools/echo/items", chunks=[chunk(b"1" * 6), chunk(b"1" * 6)])
    assert without_length is not None
    assert without_length.error == (413, "too_large")


def test_a_body_may_come_in_pieces_and_without_its_length(pool: Pool[int, int]) -> None:
    reply = ask(Application({"echo": pool}), "POST", "/api/pools/echo/items", chunks=[chunk(b"1"), chunk(b"2", False)])
    assert reply is not None
    assert reply.status == 202


def test_a_body_has_to_be_there_in_time(pool: Pool[int, int]) -> None:
    reply = ask(Application({"echo": pool}, limits=SMALL), "POST", "/api/pools/echo/items", chunks=[chunk(b"1")])
    assert reply is not None
    assert reply.error == (408, "timeout")
    assert reply.headers["connection"] == "close"


def test_a_body_has_a_length_that_is_one(pool: Pool[int, int]) -> None:
    application = Application({"echo": pool})
    without = ask(application, "GET", "/api/pools/echo/items")
    assert without is not None
    assert without.status == 405
    reply = post(application, "/api/pools/echo/items", b"1", [("Content-Length", "one")])
    assert reply.error == (400, "bad_request")


def test_who_goes_away_is_not_answered(pool: Pool[int, int]) -> None:
    gone: list[Message] = [chunk(b"1"), {"type": "http.disconnect"}]
    assert ask(Application({"echo": pool}), "POST", "/api/pools/echo/items", chunks=gone) is None
    assert pool.stats().offered == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("Sec-Fetch-Site", "cross-site")], 403),
        ([("Sec-Fetch-Site", "same-site")], 403),
        ([("Sec-Fetch-Site", "same-origin")], 202),
        ([("Sec-Fetch-Site", "none")], 202),
        ([("Host", "127.0.0.1:9090"), ("Origin", "http://evil.example")], 403),
        ([("Host", "127.0.0.1:9090"), ("Origin", "null")], 403),
        ([("Host", "127.0.0.1:9090"), ("Origin", "http://127.0.0.1:9090")], 202),
        ([("Host", "127.0.0.1:9090")], 202),
    ],
)
def test_a_page_of_another_site_may_not_send_items(
    headers: list[tuple[str, str]], status: int, pool: Pool[int, int]
) -> None:
    assert post(Application({"echo": pool}), "/api/pools/echo/items", 1, headers).status == status


# -- steering ------------------------------------------------------------------------------------------------

ACTIONS = ["pause", "resume", "resize", "drain"]


@pytest.mark.parametrize("action", ACTIONS)
def test_without_a_token_nothing_can_be_steered(action: str, pool: Pool[int, int]) -> None:
    for headers in ([], BEARER, [("Authorization", "Bearer ")], [("Authorization", "Bearer None")]):
        reply = post(Application({"echo": pool}), f"/api/pools/echo/{action}", {"workers": 1}, headers)
        assert reply.status in (404, 405)
    assert pool.stats().state == "running"
    assert get(Application({"echo": pool}), "/api/pools").json["paused"] == []


def test_an_empty_token_is_none_that_could_be_kept() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        Application({}, token="")


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer ü"],
)
def test_without_the_token_nothing_is_done(
    action: str, authorization: str | None, pool: Pool[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    headers = [] if authorization is None else [("Authorization", authorization)]
    application = Application({"echo": pool}, token=TOKEN)
    reply = post(application, f"/api/pools/echo/{action}", {"workers": 1}, headers)
    assert reply.error == (401, "wrong_token" if authorization else "no_token")
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert post(application, f"/api/pools/other/{action}", b"", headers).status == 401  # not: there is no such pool
    assert (pool.stats().state, pool.stats().workers) == ("running", 2)
    assert f"/api/pools/echo/{action} was refused to 192.0.2.7:4711" in caplog.text


def test_with_the_token_it_is_done_and_logged(pool: Pool[int, int], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "workpool")
    application = Application({"echo": pool}, token=TOKEN)
    assert post(application, "/api/pools/echo/pause", b"", BEARER).json == {"paused": True}
    future = pool.call(1)
    assert get(application, "/api/pools").json["paused"] == ["echo"]
    assert post(application, "/api/pools/echo/resume", b"", BEARER).json == {"paused": False}
    assert future.result(20) == 1
    assert post(application, "/api/pools/echo/resize", {"workers": 3}, BEARER).json == {"workers": 3}
    assert pool.stats().workers == 3
    assert post(application, "/api/pools/echo/drain", b"", BEARER).status == 202
    assert pool.stats().state in ("draining", "stopped")
    done = [record.getMessage() for record in caplog.records]
    assert done == [
        "/api/pools/echo/pause was done for 192.0.2.7:4711",
        "/api/pools/echo/resume was done for 192.0.2.7:4711",
        "/api/pools/echo/resize to 3 workers was done for 192.0.2.7:4711",
        "/api/pools/echo/drain was done for 192.0.2.7:4711",
    ]
    assert not any(TOKEN in line for line in done)


def test_the_kind_of_token_may_be_written_small_and_the_token_be_any_text(pool: Pool[int, int]) -> None:
    application = Application({"echo": pool}, token="pässwörd")
    assert post(application, "/api/pools/echo/resume", b"", [("authorization", "bearer pässwörd")]).status == 200


def test_a_pool_that_is_stopped_cannot_be_steered(caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool(echo, name="echo")
    pool.close()
    application = Application({"echo": pool}, token=TOKEN)
    assert post(application, "/api/pools/echo/pause", b"", BEARER).error == (409, "not_running")
    assert post(application, "/api/pools/echo/resize", {"workers": 3}, BEARER).error == (409, "not_running")
    assert "/api/pools/echo/pause by 192.0.2.7:4711 failed" in caplog.text


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", (400, "not_json")),
        (b"{", (400, "not_json")),
        (b"[" * 100_000, (400, "not_json")),
        (b"[]", (422, "not_a_number")),
        (b"3", (422, "not_a_number")),
        (b"{}", (422, "not_a_number")),
        (b'{"workers": 0}', (422, "not_a_number")),
        (b'{"workers": -1}', (422, "not_a_number")),
        (b'{"workers": 1.5}', (422, "not_a_number")),
        (b'{"workers": true}', (422, "not_a_number")),
        (b'{"workers": "3"}', (422, "not_a_number")),
        (b'{"workers": 1000000}', (422, "not_a_number")),
    ],
)
def test_a_number_of_workers_is_one(body: bytes, error: tuple[int, str], pool: Pool[int, int]) -> None:
    assert post(Application({"echo": pool}, token=TOKEN), "/api/pools/echo/resize", body, BEARER).error == error
    assert pool.stats().workers == 2


def test_a_number_of_workers_may_be_written_with_a_point(pool: Pool[int, int]) -> None:
    reply = post(Application({"echo": pool}, token=TOKEN), "/api/pools/echo/resize", b'{"workers": 3.0}', BEARER)
    assert reply.json == {"workers": 3}


# -- the document --------------------------------------------------------------------------------------------


def described(process: Callable[[Any], Any], token: str | None = TOKEN) -> Any:
    pools: dict[str, Pool[Any, Any]] = {"a b/c": Pool(process, name="typed"), "lock": Pool(of_lock, name="lock")}
    return get(Application(pools, token=token), "/openapi.json").json


def test_the_document_names_each_route_and_no_other() -> None:
    items = "/api/pools/a%20b%2Fc/items"
    open_to_all = {"/livez", "/readyz", "/metrics", "/api/pools", "/api/pools/{name}", "/api/events", items}
    assert set(described(of_order, token=None)["paths"]) == open_to_all
    control = {f"/api/pools/{{name}}/{action}" for action in ACTIONS}
    paths = described(of_order)["paths"]
    assert set(paths) == open_to_all | control
    with Pool(of_order, name="typed") as pool:
        application = Application({"a b/c": pool}, token=TOKEN)
        for path in set(paths) - {"/api/events"}:
            for method in ("get", "post"):
                reply = ask(application, method.upper(), unquote(path).replace("{name}", "a b/c"), {"drink": "tea"})
                assert reply is not None
                assert (reply.status == 405) == (method not in paths[path])
                assert reply.status == 405 or str(reply.status) in paths[path][method]["responses"]


@pytest.mark.parametrize("process", [of_order, of_label, of_text, of_numbers, of_anything, repr])
def test_what_the_document_refers_to_is_in_it(process: Callable[[Any], Any]) -> None:
    document = described(process)
    for found in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
        part = document
        for name in found.split("/"):
            part = part[name]
        assert part["type"] == "object"


class Tree(BaseModel):
    branches: list[Tree] = []


def of_tree(tree: Tree) -> None: ...


def test_types_of_several_pools_are_kept_apart() -> None:
    pools: dict[str, Pool[Any, Any]] = {"a": Pool(of_tree, name="a"), "b": Pool(of_tree, name="b")}
    document = get(Application(pools), "/openapi.json").json
    assert set(document["components"]["schemas"]) == {"Error", "0.Tree", "1.Tree"}

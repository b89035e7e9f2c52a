"""The page in a real browser: what a user sees, does with the keyboard, and is refused."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from time import monotonic

import pytest
from playwright.sync_api import Browser, Page, expect

from workpool import Pool, PoolStopped, QueueFull
from workpool.service.application import Application
from workpool.service.server import Server

SECONDS = 30.0
"""The longest that anything is waited for."""

expect.set_options(timeout=SECONDS * 1000)


class Watched:
    """A page, and all that it must not do."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page = page
        self.server = server
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(server.url)
        expect(page.get_by_text("Live", exact=True)).to_be_visible()

    def row(self, pool: str) -> str:
        """What the row of a pool says."""
        return self.page.get_by_role("row", name=pool).inner_text()

    def is_quiet(self) -> None:
        """Nothing was written to the console, and no other host was asked."""
        assert self.said == []
        assert {url[: len(self.server.url) + 1] for url in self.asked} == {f"{self.server.url}/"}


class Held:
    """A pool whose items wait for a gate."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.pool: Pool[str, None] = Pool(self._wait_at_the_gate, workers=2, queue_size=3, name="held")

    def _wait_at_the_gate(self, item: str) -> None:
        if item == "stuck":
            self.gate.wait()


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    with held.pool:
        yield held
        held.gate.set()


@pytest.fixture
def server(held: Held) -> Iterator[Server]:
    with Server(Application({"held": held.pool}, token="secret", interval=0.1, stuck_after=0.2)) as server:
        yield server


@pytest.fixture
def watched(browser: Browser, server: Server) -> Iterator[Watched]:
    page = browser.new_page()
    page.set_default_timeout(SECONDS * 1000)
    yield Watched(page, server)
    page.close()


def test_numbers_change(watched: Watched, held: Held) -> None:
    row = watched.page.get_by_role("row", name="held")
    expect(row).to_contain_text("0 of 3")
    for _ in range(2):
        held.pool.submit("stuck")
    for _ in range(3):
        held.pool.submit_wait("stuck")
    with pytest.raises(QueueFull):
        held.pool.submit("quick")
    expect(row).to_contain_text("3 of 3")
    expect(row).to_contain_text("2 of 2")
    expect(row).to_contain_text("full 1")
    held.gate.set()
    expect(row).to_contain_text("0 of 3")
    assert row.locator("polyline").first.get_attribute("points")
    watched.is_quiet()


def test_a_stuck_worker_shows_its_stack(watched: Watched, held: Held) -> None:
    held.pool.submit("stuck")
    page = watched.page
    page.get_by_role("link", name="held").click()
    page.locator("summary:visible", has_text="Looks stuck").click()
    expect(page.locator("pre:visible")).to_contain_text("_wait_at_the_gate")
    watched.is_quiet()


def test_pause_and_resume_with_the_token_by_keyboard_alone(watched: Watched, held: Held) -> None:
    page = watched.page
    page.get_by_role("link", name="held").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Pause")).to_be_enabled()
    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("The token of this service")).to_be_focused()
    page.keyboard.type("secret")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Paused.")).to_be_visible()
    held.pool.submit("quick")
    assert held.pool.stats().queue_depth == 1
    page.get_by_role("button", name="Resume").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Resumed.")).to_be_visible()  # it remembers the token
    held.pool.join(SECONDS)
    watched.is_quiet()


def test_a_pool_is_resized_with_the_token(watched: Watched, held: Held) -> None:
    page = watched.page
    page.get_by_role("link", name="held").click()
    wanted = page.get_by_role("spinbutton", name="Workers")
    expect(wanted).to_have_value("2")
    wanted.fill("5")
    page.keyboard.press("Enter")
    page.get_by_label("The token of this service").fill("secret")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Resized to 5.")).to_be_visible()
    expect(page.get_by_text("0 of 5").locator("visible=true")).to_be_visible()
    assert held.pool.stats().workers == 5
    watched.is_quiet()


@pytest.mark.parametrize("wrong", ["0", "-3", "1.5", "10001", ""])
def test_what_is_no_number_of_workers_is_not_even_sent(watched: Watched, held: Held, wrong: str) -> None:
    page = watched.page
    page.get_by_role("link", name="held").click()
    wanted = page.get_by_role("spinbutton", name="Workers")
    expect(wanted).to_have_value("2")
    wanted.fill(wrong)
    page.get_by_role("button", name="Resize").click()
    assert not wanted.evaluate("node => node.validity.valid")
    expect(page.get_by_label("The token of this service")).to_be_hidden()
    watched.is_quiet()


def test_a_pool_is_drained_only_when_that_is_confirmed(watched: Watched, held: Held) -> None:
    page = watched.page
    held.pool.submit("stuck")
    page.get_by_role("link", name="held").click()
    page.get_by_role("button", name="Drain…").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert held.pool.stats().state == "running"
    page.get_by_role("button", name="Drain…").click()
    page.get_by_role("button", name="Drain", exact=True).click()
    page.get_by_label("The token of this service").fill("secret")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Draining.")).to_be_visible()
    expect(page.locator("#pool-state")).to_have_text("draining")
    expect(page.get_by_role("button", name="Drain…")).to_be_disabled()
    expect(page.get_by_role("button", name="Resize")).to_be_disabled()
    with pytest.raises(PoolStopped):
        held.pool.submit("quick")
    held.gate.set()
    watched.is_quiet()


def test_a_pool_of_its_own_page_has_a_chart_of_each_measure(watched: Watched, held: Held) -> None:
    page = watched.page
    page.get_by_role("link", name="held").click()
    held.pool.submit("quick")
    charts = page.locator("#charts > div")
    expect(charts).to_have_text(
        [
            re.compile("^Queue0 of 3up to 3$"),
            re.compile("^Busy workers0 of 2up to 2$"),
            re.compile("^Throughput.*/sup to .*/s$"),
            re.compile("^Failures0, 0/sup to 0/s$"),
            re.compile("^Refused0up to 0/s$"),
            re.compile("^Shed0up to 0/s$"),
            re.compile("^Run timep50 .*ms, p99 .*msup to .*ms$"),
            re.compile("^Waitp50 .*ms, p99 .*msup to .*ms$"),
        ]
    )
    for chart in charts.locator("polyline").all():
        assert chart.get_attribute("points")
    expect(page.locator("#numbers > div").filter(has_text="Succeeded")).to_have_text("Succeeded1")
    watched.is_quiet()


def test_a_pool_says_how_its_source_is(browser: Browser, held: Held) -> None:
    state = {
        "kind": "jetstream",
        "stream": "orders",
        "connected": False,
        "state": "there is no stream 'orders'",
        "given_back": 1234,
        "left": 0,
        "dead": {"invalid": 2},
    }
    with Server(Application({"held": held.pool}, sources={"held": lambda: state}, interval=0.1)) as server:
        page = browser.new_page()
        watched = Watched(page, server)
        page.get_by_role("link", name="held").click()
        says = "jetstream orders, not connected, there is no stream 'orders', 1,234 given back, dead: invalid 2"
        expect(page.locator("#source")).to_have_text(f"; its source: {says}")
        watched.is_quiet()
        page.close()


def test_a_pool_that_is_not_there_is_said(watched: Watched) -> None:
    watched.page.goto(f"{watched.server.url}/#pool=nobody")
    expect(watched.page.get_by_text("there is no pool 'nobody'")).to_be_visible()
    expect(watched.page.get_by_role("button")).to_have_count(0)


def test_a_wrong_token_is_refused(watched: Watched, held: Held) -> None:
    page = watched.page
    page.get_by_role("link", name="held").click()
    page.get_by_role("button", name="Pause").click()
    page.get_by_label("The token of this service").fill("wrong")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("Refused: ")).to_be_visible()
    held.pool.submit("quick")
    held.pool.join(SECONDS)  # it is not paused
    assert all("401" in said for said in watched.said)  # the browser's own word for a refused request


def test_without_a_token_there_is_nothing_to_press(browser: Browser, held: Held) -> None:
    with Server(Application({"held": held.pool}, interval=0.1)) as server:
        page = browser.new_page()
        watched = Watched(page, server)
        page.get_by_role("link", name="held").click()
        expect(page.get_by_role("heading", name="held")).to_be_focused()
        expect(page.locator("#pool-state")).to_have_text("running")
        expect(page.get_by_role("button")).to_have_count(0)
        watched.is_quiet()
        page.close()


def test_a_stop_ends_the_stream_and_the_page_finds_the_next_service(browser: Browser, held: Held) -> None:
    page = browser.new_page()
    with Server(Application({"held": held.pool}, interval=0.1)) as server:
        Watched(page, server)
        began = monotonic()
    assert monotonic() - began < 5  # its stop would wait so long for a request
    expect(page.get_by_role("status").first).to_contain_text("Trying again")
    with Server(Application({"held": held.pool}, interval=0.1), port=server.port):
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(browser: Browser, server: Server, scheme: str) -> None:
    """By the contrast that the web's guidelines ask for."""
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Watched(page, server)
    body = page.locator("body")
    text, ground = (body.evaluate(f"node => getComputedStyle(node).{what}") for what in ("color", "backgroundColor"))
    darker, lighter = sorted([_luminance(text), _luminance(ground)])
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5
    assert (_luminance(ground) > 0.5) == (scheme == "light")
    page.close()


def _luminance(colour: str) -> float:
    """Of `rgb(...)`, by the guidelines' formula (WCAG 2.2, relative luminance)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

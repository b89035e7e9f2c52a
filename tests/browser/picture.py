"""Makes page.png, the page of two pools under more load than they can take, after a minute of it, and pool.png, that of
one of them.

python -m tests.browser.picture FOLDER
"""

from __future__ import annotations

import random
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import OPTIONS
from workpool import Fifo, Pool, QueueFull, current
from workpool.service.application import Application
from workpool.service.server import Server

SECONDS = 75.0
"""For which there is load, so that the charts show something."""

STUCK = 14.0
"""For which one item has run then: longer than one that is looked at as stuck."""


def process_message(size: float) -> None:
    current().sleep(random.expovariate(1 / size))
    if random.random() < 0.01:
        raise ValueError("a message that is wrong")


def process_batch(size: float) -> None:
    current().sleep(size)


def take(page: Page, folder: Path) -> None:
    page.screenshot(path=folder / "page.png")
    page.get_by_role("link", name="batch_processor").click()
    page.locator("summary:visible").first.wait_for()  # not opened: a stack names folders of this machine
    page.set_viewport_size({"width": 1480, "height": 840})
    page.evaluate("window.scrollTo(0, 0)")
    page.screenshot(path=folder / "pool.png")


def load(pool: Pool[float, None], size: float, pause: Callable[[], float], ends: threading.Event) -> None:
    while not ends.wait(pause()):
        try:
            pool.submit(size)
        except QueueFull:
            pass


def main(folder: Path) -> None:
    ends = threading.Event()
    queue = Fifo(200, max_wait=0.15)
    messages = Pool(process_message, workers=10, queue=queue, name="message_processor")
    batches = Pool(process_batch, workers=5, queue_size=20, name="batch_processor")
    chromium = shutil.which("chromium")
    pools = {pool.name: pool for pool in (messages, batches)}
    with messages, batches, Server(Application(pools, token="a token")) as server, sync_playwright() as playwright:
        loads = [(messages, 0.01, lambda: random.expovariate(1100)), (batches, 0.3, lambda: random.expovariate(17))]
        threads = [threading.Thread(target=load, args=[*each, ends]) for each in loads]
        for thread in threads:
            thread.start()
        browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1480, "height": 300}, device_scale_factor=2)
        page.goto(server.url)
        ends.wait(SECONDS - STUCK)
        batches.submit_wait(2 * STUCK)
        ends.wait(STUCK)
        take(page, folder)
        browser.close()
        ends.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

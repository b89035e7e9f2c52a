"""Makes docs/page.png: the page, of two pools under more load than they can take, after a minute of it.

python -m tests.browser.picture FILE
"""

from __future__ import annotations

import random
import shutil
import sys
import threading
from collections.abc import Callable

from playwright.sync_api import sync_playwright

from tests.browser.conftest import OPTIONS
from workpool import Fifo, Pool, QueueFull, current
from workpool.service.application import Application
from workpool.service.server import Server

SECONDS = 75.0
"""For which there is load, so that the charts show something."""


def process_message(size: float) -> None:
    current().sleep(random.expovariate(1 / size))
    if random.random() < 0.01:
        raise ValueError("a message that is wrong")


def process_batch(size: float) -> None:
    current().sleep(size)


def load(pool: Pool[float, None], size: float, pause: Callable[[], float], ends: threading.Event) -> None:
    while not ends.wait(pause()):
        try:
            pool.submit(size)
        except QueueFull:
            pass


def main(file: str) -> None:
    ends = threading.Event()
    queue = Fifo(200, max_wait=0.15)
    messages = Pool(process_message, workers=10, queue=queue, name="message_processor")
    batches = Pool(process_batch, workers=5, queue_size=20, name="batch_processor")
    chromium = shutil.which("chromium")
    pools = {pool.name: pool for pool in (messages, batches)}
    with messages, batches, Server(Application(pools)) as server, sync_playwright() as playwright:
        loads = [(messages, 0.01, lambda: random.expovariate(1100)), (batches, 0.3, lambda: random.expovariate(17))]
        threads = [threading.Thread(target=load, args=[*each, ends]) for each in loads]
        for thread in threads:
            thread.start()
        browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1480, "height": 300}, device_scale_factor=2)
        page.goto(server.url)
        ends.wait(SECONDS)
        page.screenshot(path=file)
        browser.close()
        ends.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(sys.argv[1])

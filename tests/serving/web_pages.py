"""A browser for the tests of the page: pages that fail a test by what their console says, and scans for barriers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
GRAVE = {"serious", "critical"}


def launch(playwright: Playwright) -> Browser:
    """The chromium of this machine, without a window."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@contextmanager
def open_page(browser: Browser, url: str, *, allowed_messages: tuple[str, ...] = (), **settings: Any) -> Iterator[Page]:
    """A page of its own context at `url`; at the end its console must not have held anything but `allowed_messages`."""
    settings.setdefault("viewport", {"width": 1280, "height": 900})
    settings.setdefault("reduced_motion", "reduce")
    context = browser.new_context(**settings)
    context.set_default_timeout(30_000)
    page = context.new_page()
    messages: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(text in message.text for text in allowed_messages):
            messages.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(url)
    yield page
    context.close()
    assert messages == []


def barriers(page: Page) -> list[str]:
    """What axe finds on the page that is serious or critical: the rule and the first element; drawings say nothing."""
    context, options = {"exclude": [".picture"]}, {"resultTypes": ["violations"]}
    violations = Axe().run(page, context, options).response["violations"]
    return [f"{rule['id']}: {rule['nodes'][0]['html'][:200]}" for rule in violations if rule["impact"] in GRAVE]


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


def queries(server: str) -> list[str]:
    """Queries of the log that find many items."""
    examples = httpx.get(f"{server}/v1/catalogue").json()["examples"]
    rich = [query for query in examples if len(_hits(server, query)) == 30]
    assert len(rich) > 1, examples
    return rich


def _hits(server: str, query: str) -> list[Any]:
    answer = httpx.post(f"{server}/v1/search", json={"query": query, "k": 30})
    return list(answer.json()["hits"])

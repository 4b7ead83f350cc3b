"""A real browser, a real web process, real workers and beat: for what only a person would see.

Without a Chromium these tests are left out; with REQUIRE_BROWSER=1 they fail instead.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from dev.processes import free_port
from tests.acceptance.workers import Workers
from tests.ops import OPERATOR, PASSWORD, ops_settings

NO_BROWSER = "No Chromium was found: install Debian's `chromium`. REQUIRE_BROWSER=1 makes a failure of this."
SECONDS_TO_APPEAR = 40
Open = Callable[..., Page]

expect.set_options(timeout=1000 * SECONDS_TO_APPEAR)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's own browser, without a window."""
    program = shutil.which("chromium")
    if program is None:
        (pytest.fail if os.environ.get("REQUIRE_BROWSER") == "1" else pytest.skip)(NO_BROWSER)
    with sync_playwright() as playwright:
        # As root, in a container, Chromium's own sandbox can't be made.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def settings_override() -> dict[str, str]:
    return ops_settings()


@pytest.fixture
def workers(app: Any, environment: dict[str, str], tmp_path: Path) -> Iterator[Workers]:
    """Workers and beat of the test's own, on a broker of its own; none is started yet."""
    made = Workers({**environment, **ops_settings()}, tmp_path)
    yield made
    made.stop()


@pytest.fixture
def site(workers: Workers) -> str:
    """The address of a web process."""
    port = free_port()
    workers.start_web(port)
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def context(chromium: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Makes windows that share nothing with each other."""
    opened: list[BrowserContext] = []

    def make(**options: Any) -> BrowserContext:
        opened.append(chromium.new_context(reduced_motion="reduce", **options))
        opened[-1].set_default_timeout(1000 * SECONDS_TO_APPEAR)
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def log_in(site: str, context: Callable[..., BrowserContext]) -> Iterator[Open]:
    """Opens the page, as somebody who has logged in. Nothing on it may offend its Content-Security-Policy."""
    complaints: list[str] = []

    def open_page(name: str = OPERATOR, password: str = PASSWORD, **options: Any) -> Page:
        page = context(**options).new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if _is_refusal(said.text) else None)
        page.goto(f"{site}/ops")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(password)
        page.get_by_role("main").get_by_role("button", name="Log in").click()
        return page

    yield open_page
    assert complaints == []


def _is_refusal(said: str) -> bool:
    return "Content Security Policy" in said or "Refused to" in said

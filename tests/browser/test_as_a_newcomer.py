"""What a new operator does: `make demo`, log in with what it printed, and watch its night end.

Then `make up`: log in, watch a run end, break a bucket by the documented switch, see why the page is red, fix it,
retry from the page, and see it turn green.

Seen to fail: the demo's web process without its users.
"""

import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.acceptance.local import SECONDS_TO_END, Local, end, read_until

BUCKET = "local-letters-pdf"


@pytest.fixture
def local() -> Iterator[Local]:
    with tempfile.TemporaryDirectory(prefix="demo-test-") as name:
        Path(name).chmod(0o711)
        made = Local(Path(name))
        yield made
        assert made.left_running() == []


def test_the_night_of_make_demo_is_watched_to_its_end(context, local):
    demo = local.start("demo", "--scale", "0.3")
    try:
        page = _logged_in(read_until(demo, "on the ops page:"), context().new_page())
        run, verdict = page.locator("#run"), page.locator("#verdict")
        expect(run).to_contain_text("There has been no run yet.")
        expect(run).to_contain_text("The run is under way", timeout=90_000)
        expect(run).to_contain_text("The last run is done", timeout=90_000)
        expect(verdict).to_contain_text("retention refused.")
    finally:
        end(demo, signal.SIGTERM)


def test_from_make_up_to_red_and_back_to_green(context, local):
    up, printed = local.up()
    try:
        _walk(local, _logged_in(printed, context().new_page()))
    finally:
        end(up, signal.SIGTERM)


def _logged_in(printed: str, page):
    """The ops page, with the user and password that were printed."""
    address, user, password = re.search(r"ops\b.*: +(\S+) \(user (\S+), password (\S+)\)", printed).groups()
    page.goto(address)
    page.get_by_label("Name").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("main").get_by_role("button", name="Log in").click()
    return page


def _walk(local: Local, page) -> None:
    verdict, run = page.locator("#verdict"), page.locator("#run")
    expect(verdict).to_contain_text("should be gone")
    verdict.get_by_role("link", name="Start a run").click()
    page.get_by_role("button", name="Start").click()
    expect(run).to_contain_text("The run is under way")
    expect(run).to_contain_text("The last run is done", timeout=90_000)
    expect(verdict.get_by_role("heading")).to_have_text("Nothing is overdue.")
    expect(verdict).to_have_class("verdict green")

    said = _local(local, "break-bucket")
    assert f"{BUCKET} refuses everything now" in said, said
    expect(verdict).to_have_class("verdict red", timeout=60_000)
    expect(verdict).to_contain_text(f"{BUCKET}: AccessDenied", timeout=60_000)
    expect(page.locator("#held-back")).to_contain_text("AccessDenied")

    assert f"{BUCKET} answers again" in _local(local, "fix-bucket")
    verdict.get_by_role("link", name="Retry what is held back").click()
    page.get_by_role("button", name="Retry now").click()
    expect(verdict).to_have_class("verdict green", timeout=60_000)
    expect(verdict.get_by_role("heading")).to_have_text("Nothing is overdue.")


def _local(local: Local, command: str) -> str:
    process = local.start(command, BUCKET, "--state", str(local.state))
    said = process.communicate(timeout=SECONDS_TO_END)[0]
    assert process.returncode == 0, said
    return said

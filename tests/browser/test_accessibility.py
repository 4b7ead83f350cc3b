"""Nothing on any page keeps anybody out: checked by axe-core, on the fullest page there is, in light and in dark.

Seen to fail: a page that is too wide for a phone.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from sqlalchemy import Connection, text

from app.ops.actions import ACTIONS
from app.retention import operations
from tests.factories import create_letter, create_notification, create_service
from tests.ops import VIEWER

SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
PICTURE = Path(__file__).parents[2] / "docs" / "images" / "ops.png"

STEP = text(
    """
    INSERT INTO retention.steps (night, notification_type, service_id, cutoff, stage, slice, step, started_at, seconds,
        outcome, chosen, moved, deleted, files_deleted, without_file, deferred)
    VALUES (:night, :type, :service, now(), 'real', 0, 0, :at, 1, 'again', :moved, :moved, :deleted, :files, 0, 0)
    """
)
DEFER = text(
    """
    INSERT INTO retention.deferred_rows VALUES (:letter, :service, 'real', now(), 'AccessDenied', :attempts,
        now() - interval '2 days', now(), now() + interval '1 hour', :attempts > 7, 'letter')
    """
)
DEFER_BUCKET = text(
    """
    INSERT INTO retention.deferred_buckets VALUES (:service, 'local-letters-scan', 'real', now(), 'NoSuchBucket', 3,
        now() - interval '1 day', now(), now() + interval '1 hour')
    """
)


def violations(page: Page) -> str:
    found = Axe().run(page)
    return "" if not found.violations_count else found.generate_report()


def thirty_nights(connection: Connection) -> None:
    now = datetime.now(UTC)
    for ago in range(30):
        night = (now - timedelta(days=ago)).date()
        connection.execute(text("INSERT INTO retention.runs VALUES (:night, :at)"), {"night": night, "at": now})
        for number, kind in enumerate(("email", "sms", "letter")):
            rows = (9200 - 2900 * number) + (ago * ago * 7919 + number * 104729) % 2600
            values = {"night": night, "type": kind, "service": uuid4(), "at": now - timedelta(days=ago, minutes=20)}
            files = rows + 40 if kind == "letter" else 0
            connection.execute(STEP, {**values, "moved": rows, "deleted": rows // 25, "files": files})


def fill(connection: Connection, s3) -> None:
    """Something in every section."""
    thirty_nights(connection)
    troubled = create_service(connection)
    for attempts in (3, 8):
        letter = create_letter(connection, s3, troubled)
        connection.execute(DEFER, {"letter": letter, "service": troubled, "attempts": attempts})
    connection.execute(DEFER_BUCKET, {"service": troubled})
    create_letter(connection, s3, create_service(connection), notification_status="sending")
    create_notification(connection, create_service(connection))
    held = create_service(connection)
    create_notification(connection, held)
    operations.hold(held, "a court asks", "olga")
    operations.pause("a migration", "olga")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_fullest_page_keeps_nobody_out(log_in, connection, s3, size, scheme):
    fill(connection, s3)
    page = log_in(viewport=SIZES[size], color_scheme=scheme)
    expect(page.get_by_role("region", name="Stopped by hand")).to_be_visible()
    for opened in page.locator("summary").all():
        opened.click()
    assert violations(page) == ""
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"], "the page scrolls sideways"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_other_pages_keep_nobody_out(site, log_in, connection, scheme):
    page = log_in(password="a wrong password", color_scheme=scheme)
    expect(page.get_by_role("alert")).to_be_visible()
    assert violations(page) == ""
    page = log_in(color_scheme=scheme)
    expect(page.locator("#verdict")).to_be_visible()
    assert violations(page) == "", "the empty page"
    for name in ACTIONS:
        page.goto(f"{site}/ops/actions/{name}")
        assert violations(page) == "", name
    page.goto(f"{site}/ops/actions/hold")
    page.get_by_label("Service").fill("no such service")
    page.get_by_label("Why").fill("a try")
    page.get_by_role("button", name="Put on hold").click()
    expect(page.get_by_role("alert")).to_contain_text("is not a service id")
    assert violations(page) == ""
    page.goto(f"{site}/ops/nowhere")
    assert violations(page) == ""
    page = log_in(VIEWER, color_scheme=scheme)
    expect(page.get_by_text("You may look at this page")).to_be_visible()
    assert violations(page) == ""


if os.environ.get("MAKE_PICTURES"):  # makes the README's picture; otherwise tests write nothing into the tree

    def test_the_picture_of_the_readme(log_in, workers, connection, s3):
        thirty_nights(connection)
        workers.start()
        workers.start_beat()
        page = log_in(viewport={"width": 1280, "height": 1060}, device_scale_factor=1.5)
        expect(page.get_by_role("region", name="Workers and queues")).to_contain_text("1 worker is alive")
        expect(page.get_by_role("region", name="Workers and queues")).to_contain_text("was last at work")
        page.reload()
        PICTURE.parent.mkdir(exist_ok=True)
        page.screenshot(path=PICTURE)

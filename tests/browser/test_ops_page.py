"""The ops page as an operator has it: a run, a held-back letter, a hold, and all of it without JavaScript."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import text

from tests.acceptance.workers import SLOW_DOWN, SLOW_NO_MORE, slow_down
from tests.factories import create_letter, create_notification, create_service, history, keys, live
from tests.least import policy, put_under_policy
from tests.ops import OPERATOR, PASSWORD
from tests.servers import grant_buckets

EMAILS = 260


def verdict(page: Page) -> Any:
    return page.locator("#verdict h2")


def run_section(page: Page) -> Any:
    return page.locator("#run")


def choose(page: Page, action: str) -> None:
    """Open one of the actions of the page."""
    page.get_by_role("region", name="Step in").get_by_role("link", name=action, exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(action)


@pytest.fixture
def slow_steps(app, connection):
    """Each step of emails takes a second, so that there is something to watch."""
    connection.exec_driver_sql(SLOW_DOWN)
    slow_down(connection, 1)
    yield
    connection.exec_driver_sql(SLOW_NO_MORE)


def test_a_run_goes_from_idle_to_done_on_the_screen(log_in, workers, connection, slow_steps):
    service = create_service(connection)
    emails = {create_notification(connection, service) for _ in range(EMAILS)}
    workers.start()
    workers.start_beat()
    page = log_in()
    expect(verdict(page)).to_contain_text(f"{EMAILS} rows of email should be gone")
    expect(page.locator("#verdict")).to_contain_text("No run is taking it.")
    expect(run_section(page)).to_contain_text("There has been no run yet.")
    choose(page, "Start a run")
    page.get_by_label("Type").select_option("email")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("status").first).to_contain_text("1 chains opened.")
    page.get_by_text("The same as a table").click()  # what a reader opens stays open
    loads = []
    page.on("load", lambda loaded: loads.append(loaded))
    expect(run_section(page)).to_contain_text("The run is under way")
    bar = page.get_by_role("progressbar", name="Emails")
    seen = set()
    while run_section(page).get_by_role("heading").inner_text() == "The run is under way":
        seen.add(bar.get_attribute("value"))
        page.wait_for_timeout(200)
    assert len(seen) >= 3, f"the bar never moved: {seen}"
    expect(run_section(page)).to_contain_text("The last run is done")
    expect(verdict(page)).to_have_text("Nothing is overdue.")
    expect(page.locator("#announced")).to_have_text("Nothing is overdue.")
    expect(page.locator("#history-table")).to_have_attribute("open", "")
    expect(page.get_by_role("table", name="What each night did")).to_contain_text(str(EMAILS))
    assert loads == [], "the page was loaded anew"
    assert history(connection) == emails


def test_a_letter_that_is_held_back_is_retried(log_in, workers, connection, s3, environment):
    buckets = {name: value for name, value in environment.items() if name.startswith("S3_BUCKET_")}
    letter = create_letter(connection, s3, create_service(connection))
    refusing = policy(buckets)
    for statement in refusing["Statement"]:
        statement["Action"] = [one for one in statement["Action"] if not one.startswith("s3:DeleteObject")]
    put_under_policy(environment["AWS_ENDPOINT_URL_S3"], environment["AWS_ACCESS_KEY_ID"], refusing)
    try:
        workers.start()
        workers.start_beat()
        page = log_in()
        choose(page, "Start a run")
        page.get_by_role("button", name="Start").click()
        held = page.locator("#held-back")
        expect(held).to_contain_text("1 row is held back")
        expect(page.locator("#verdict")).to_contain_text("AccessDenied (1)")
        expect(page.locator("#verdict")).to_contain_text("S3 refuses files")
        page.get_by_text("The 1 longest held back").click()
        expect(held.get_by_role("row", name=str(letter))).to_contain_text("letter")
        assert live(connection) == {letter}
    finally:
        grant_buckets(environment)
    page.locator("#verdict").get_by_role("link", name="Retry what is held back").click()
    page.get_by_label("Reason").fill("AccessDenied")
    page.get_by_role("button", name="Retry now").click()
    expect(page.get_by_role("status").first).to_contain_text("1 held back are due now.")
    expect(verdict(page)).to_have_text("Nothing is overdue.")
    expect(held).to_contain_text("Nothing is held back.")
    assert (history(connection), keys(s3, buckets["S3_BUCKET_LETTERS_PDF"])) == ({letter}, set())
    done = page.get_by_role("table", name="What was done by hand, the latest first")
    expect(done.get_by_role("row").nth(1)).to_contain_text("AccessDenied")
    expect(done.get_by_role("row").nth(1)).to_contain_text(OPERATOR)


def test_a_hold_stops_a_service_and_lifting_it_lets_it_go(log_in, workers, connection):
    held, other = create_service(connection), create_service(connection)
    stays, goes = create_notification(connection, held), create_notification(connection, other)
    workers.start()
    workers.start_beat()
    page = log_in()
    choose(page, "Put a service or a user on hold")
    page.get_by_label("Service or user").fill(str(held))
    page.get_by_label("Why").fill("a court asks")
    page.get_by_role("button", name="Put on hold").click()
    expect(page.get_by_role("region", name="Stopped by hand")).to_contain_text("a court asks")
    choose(page, "Start a run")
    page.get_by_role("button", name="Start").click()
    expect(run_section(page)).to_contain_text("The run is at rest")
    expect(verdict(page)).to_have_text("Nothing is overdue.")
    waiting = page.get_by_role("region", name="Waiting for another reason")
    expect(waiting.get_by_role("row", name=str(held))).to_contain_text("on hold")
    assert (live(connection), history(connection)) == ({stays}, {goes})
    page.get_by_role("region", name="Stopped by hand").get_by_role("link", name="Lift").click()
    expect(page.get_by_label("Service or user")).to_have_value(str(held))
    page.get_by_role("button", name="Lift the hold").click()
    expect(page.get_by_role("region", name="Stopped by hand")).to_have_count(0)
    expect(run_section(page)).to_contain_text("The last run is done")
    assert (live(connection), history(connection)) == (set(), {stays, goes})


def test_everything_works_without_javascript(log_in, workers, connection):
    emails = {create_notification(connection, create_service(connection)) for _ in range(3)}
    workers.start()
    workers.start_beat()
    page = log_in(java_script_enabled=False)
    choose(page, "Pause the pipeline")
    page.get_by_label("Why").fill("a migration")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("region", name="Stopped by hand")).to_contain_text("The whole pipeline is paused")
    choose(page, "Start a run")
    page.get_by_role("button", name="Start").click()
    _reload_until(page, "The run is at rest")
    assert live(connection) == emails
    choose(page, "Resume the pipeline")
    page.get_by_role("button", name="Resume").click()
    _reload_until(page, "The last run is done")
    expect(verdict(page)).to_have_text("Nothing is overdue.")
    assert history(connection) == emails
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def _reload_until(page: Page, says: str) -> None:
    expect(run_section(page)).to_be_visible()  # a reload while a button still leads here is refused by the browser
    for _ in range(100):
        page.reload()
        if says in run_section(page).inner_text():
            return
        page.wait_for_timeout(300)
    raise AssertionError(run_section(page).inner_text())


def test_an_action_is_done_with_the_keyboard_alone(log_in, connection):
    page = log_in()
    expect(verdict(page)).to_be_visible()
    _tab_to(page, "Pause the pipeline")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Pause the pipeline")
    _tab_to(page, "")
    page.keyboard.type("an incident")
    _tab_to(page, "Pause")
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Stopped by hand")).to_contain_text("an incident")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    assert connection.execute(text("SELECT placed_by FROM retention.holds")).scalar() == OPERATOR


def _tab_to(page: Page, words: str) -> None:
    """Tab until what has these words has the focus (a field has none), and see that the focus can be seen."""
    for _ in range(40):
        page.keyboard.press("Tab")
        tag, said, outline = page.evaluate(
            "(() => { const at = document.activeElement;"
            " return [at.tagName, at.textContent.trim(), getComputedStyle(at).outlineStyle]; })()"
        )
        assert outline != "none", f"{tag} {said!r} has the focus, and it can't be seen"
        if said == words and (words or tag == "INPUT"):
            return
    raise AssertionError(f"{words!r} can't be reached by the keyboard")


def test_a_log_in_is_refused(site, context, log_in):
    anonymous = context().new_page()
    anonymous.goto(f"{site}/ops/actions/pause")
    expect(anonymous.get_by_role("heading", level=1)).to_have_text("Log in")
    for _ in range(5):
        page = log_in(password="a wrong password")
        expect(page.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    page = log_in(password=PASSWORD)
    expect(page.get_by_role("alert")).to_contain_text("Too many attempts")
    page.goto(f"{site}/ops")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def test_a_page_that_cannot_refresh_itself_says_so(log_in, workers):
    page = log_in()
    expect(verdict(page)).to_be_visible()
    expect(page.locator("#stale")).to_be_hidden()
    page.route("**/ops/live", lambda route: route.abort())
    expect(page.locator("#stale")).to_contain_text("could not be refreshed")
    page.unroute("**/ops/live")
    expect(page.locator("#stale")).to_be_hidden()

"""Nobody sees the ops page who is not known, and nobody gets to be known by trying.

Seen to fail: the page open where nothing is configured; the proxy's header taken from any address; the idle limit, and
the absolute one, not looked at; a refresh that counts as a click; a session that outlives its log-out; attempts not
counted; a user who was taken from the settings let in; a viewer who may act; CSRF not asked for; attempts kept as plain
hashes, or for good; counted together with the API's, by spelling, or by single IPv6 addresses; a client past its limit
that counts against a name.
"""

import hashlib
import hmac
import json
from datetime import timedelta

import pytest
from flask import Flask
from freezegun import freeze_time
from sqlalchemy import text

from app import clock, config, create_app
from app.accounts.passwords import MOST_CHARACTERS, hash_password, is_right
from app.config import SettingsError
from tests.ops import KEY, OPERATOR, PASSWORD, VIEWER, Browser, ops_settings

PAGES = ["/ops", "/ops/", "/ops/live", "/ops/actions/run", "/ops/nowhere"]
FIFTEEN_MINUTES_LATER = text("UPDATE retention.login_attempts SET ends_at = ends_at - interval '15 minutes'")
PROXY = {"OPS_PROXY_HEADER": "X-Forwarded-User", "TRUSTED_PROXIES": "10.1.0.0/16"}


@pytest.fixture
def settings_override() -> dict[str, str]:
    return ops_settings()


@pytest.fixture
def browser(app: Flask) -> Browser:
    return Browser(app)


@pytest.fixture
def other(app: Flask, environment: dict[str, str]):
    """An application with other settings, on the same tables."""
    made = []

    def create(**changes: str) -> Flask:
        made.append(create_app(config.load({**environment, **ops_settings(), **changes})))
        return made[-1]

    yield create
    for one in made:
        one.extensions["db.engine"].dispose()


def is_let_in(browser: Browser, path: str = "/ops") -> bool:
    answer = browser.get(path)
    assert answer.status_code in (200, 303), answer.text
    return answer.status_code == 200


@pytest.mark.parametrize("path", PAGES)
def test_nobody_is_let_in_unnamed(browser, path):
    answer = browser.get(path)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/ops/login")
    assert "past their retention" not in answer.text


def test_a_form_that_nobody_known_sends_does_nothing(browser, connection):
    assert browser.send("/ops/login", name="", password="").status_code == 401
    answer = browser.post("/ops/actions/pause", reason="mischief")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/ops/login")
    assert connection.execute(text("SELECT count(*) FROM retention.holds")).scalar() == 0


@pytest.mark.parametrize("path", [*PAGES, "/ops/login"])
@pytest.mark.parametrize("missing", ["OPS_USERS", "SECRET_KEY OPS_USERS"])
def test_where_nobody_is_configured_the_page_says_so_and_is_closed(other, path, missing):
    answer = Browser(other(**dict.fromkeys(missing.split(), ""))).get(path)
    assert answer.status_code == 503
    assert "Access to this page is not configured" in answer.text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"SECRET_KEY": "short"}, "SECRET_KEY is wrong: it must have 32 characters or more"),
        ({"SECRET_KEY": "k" * 31}, "SECRET_KEY is wrong: it must have 32 characters or more"),
        ({"SECRET_KEY": ""}, "OPS_USERS is wrong: users need SECRET_KEY"),
        ({"OPS_USERS": '{"olga": "a plain password"}'}, "'olga' is no argon2 hash"),
        ({"OPS_PROXY_HEADER": "X-User"}, "it needs TRUSTED_PROXIES"),
        ({**PROXY, "OPS_USERS": "", "SECRET_KEY": ""}, "it needs SECRET_KEY"),
        ({**PROXY, "TRUSTED_PROXIES": "the proxy"}, "'the proxy' is not an address or a network"),
    ],
)
def test_settings_that_would_let_in_the_wrong_ones_are_refused(other, changes, says):
    with pytest.raises(SettingsError) as refused:
        other(**changes)
    assert says in refused.value.message
    assert "short" not in refused.value.message
    assert "a plain password" not in refused.value.message


def test_settings_that_are_just_long_enough_are_taken(other):
    assert other(SECRET_KEY="k" * 32)


def test_whoever_is_configured_logs_in_and_out(browser, connection):
    before = browser.get("/ops/login").headers["Set-Cookie"]
    answer = browser.log_in()
    assert (answer.status_code, answer.headers["Location"]) == (303, "/ops/")
    cookie = answer.headers["Set-Cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Lax", "Path=/ops"))
    assert cookie.split(";")[0] != before.split(";")[0]
    assert OPERATOR in browser.get("/ops").text
    stolen = browser.token
    out = browser.post("/ops/logout", csrf_token=_token(browser.get("/ops").text))
    assert out.headers["Location"] == "/ops/login"
    browser.client.set_cookie("ops_session", stolen, path="/ops")
    assert not is_let_in(browser)
    assert connection.execute(text("SELECT count(*) FROM retention.ops_sessions")).scalar() == 0


@pytest.mark.parametrize(("characters", "status"), [(MOST_CHARACTERS, 303), (MOST_CHARACTERS + 1, 401)])
def test_a_password_that_goes_on_after_the_longest_is_another_one(other, characters, status):
    longest = "p" * MOST_CHARACTERS
    application = other(OPS_USERS=json.dumps({OPERATOR: hash_password(longest)}), OPS_VIEWERS="")
    assert Browser(application).log_in(password="p" * characters).status_code == status


def _token(page: str) -> str:
    return page.split('name="csrf_token" value="')[1].split('"')[0]


def test_the_cookie_goes_over_https_alone_unless_said_otherwise(other):
    assert "Secure" in Browser(other(OPS_COOKIE_SECURE="true")).get("/ops/login").headers["Set-Cookie"]


def test_a_new_session_has_a_new_token(browser, connection):
    kept = text("SELECT token_hash FROM retention.ops_sessions")
    browser.log_in()
    first = set(connection.execute(kept).scalars())
    browser.post("/ops/logout", csrf_token=_token(browser.get("/ops").text))
    browser.log_in()
    assert first.isdisjoint(connection.execute(kept).scalars())


@pytest.mark.parametrize(
    ("name", "password"), [(OPERATOR, "wrong"), ("nobody", PASSWORD), ("", ""), (OPERATOR, "x" * 2000)]
)
def test_a_wrong_name_or_password_gets_one_answer(browser, name, password):
    answer = browser.log_in(name, password)
    assert answer.status_code == 401
    assert "The name or the password is wrong." in answer.text
    assert not is_let_in(browser)


@pytest.mark.parametrize(("minutes", "clicks", "stays"), [(29, False, True), (31, False, False), (31, True, True)])
def test_a_session_ends_some_minutes_after_the_last_click(app, minutes, clicks, stays):
    with freeze_time(clock.now(), ignore=["sqlalchemy"]) as time:
        browser = Browser(app)
        browser.log_in()
        time.tick(timedelta(minutes=minutes / 2))
        browser.get("/ops" if clicks else "/ops/live", **({} if clicks else {"HX-Request": "true"}))
        time.tick(timedelta(minutes=minutes / 2))
        assert is_let_in(browser) is stays


def test_a_session_ends_some_hours_after_its_start_however_busy(app):
    with freeze_time(clock.now(), ignore=["sqlalchemy"]) as time:
        browser = Browser(app)
        browser.log_in()
        for _ in range(29):
            time.tick(timedelta(minutes=20))
            assert is_let_in(browser)
        time.tick(timedelta(minutes=20))
        assert not is_let_in(browser)


def test_a_page_that_refreshes_itself_is_sent_to_the_log_in(browser):
    answer = browser.get("/ops/live", **{"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/ops/login")


def test_who_is_taken_from_the_settings_is_out(browser, other):
    browser.log_in()
    elsewhere = Browser(other(OPS_USERS=ops_settings()["OPS_USERS"].replace(OPERATOR, "somebody")))
    elsewhere.client.set_cookie("ops_session", browser.token, path="/ops")
    assert is_let_in(browser)
    assert not is_let_in(elsewhere)


@pytest.mark.parametrize("name", [OPERATOR, "nobody"])
def test_a_name_must_wait_after_five_wrong_attempts_over_all_processes(app, other, name):
    processes = [app, other()]
    for attempt in range(5):
        assert Browser(processes[attempt % 2], f"192.0.2.{attempt}").log_in(name, "wrong").status_code == 401
    answer = Browser(processes[1], "192.0.2.99").log_in(name, PASSWORD)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 900
    assert "Too many attempts" in answer.text


def test_an_address_must_wait_after_twenty_wrong_attempts(app):
    for attempt in range(20):
        assert Browser(app).log_in(f"name {attempt}", "wrong").status_code == 401
    assert Browser(app).log_in().status_code == 429
    assert Browser(app, "192.0.2.2").log_in().status_code == 303


def test_the_wait_is_over_after_fifteen_minutes_and_a_right_password_begins_anew(app, connection):
    for wrong in (5, 1):
        for _ in range(wrong):
            Browser(app).log_in(password="wrong")
        connection.execute(FIFTEEN_MINUTES_LATER)
    for _ in range(3):
        for _ in range(4):
            assert Browser(app).log_in(password="wrong").status_code == 401
        assert Browser(app).log_in().status_code == 303


def test_what_is_kept_of_attempts_names_nobody_and_goes_when_it_counts_no_more(app, connection):
    kept = text("SELECT key FROM retention.login_attempts ORDER BY key")
    Browser(app).log_in(password="wrong")
    keys = [bytes(key) for key in connection.execute(kept).scalars()]
    guessed = {hashlib.sha256(f"ops {told}".encode()).digest() for told in (f"name {OPERATOR}", "client 192.0.2.1")}
    assert len(keys) == 2
    assert guessed.isdisjoint(keys), "without the key a hash of a guess must not tell that it is right"
    assert {hmac.digest(KEY.encode(), b"ops name " + OPERATOR.encode(), "sha256")} < set(keys)
    connection.execute(FIFTEEN_MINUTES_LATER)
    Browser(app, "192.0.2.2").log_in(VIEWER)
    assert set(keys).isdisjoint(bytes(key) for key in connection.execute(kept).scalars())


def test_a_client_past_its_limit_counts_against_no_name(app):
    for attempt in range(20):
        Browser(app).log_in(f"name {attempt}", "wrong")
    for _ in range(6):
        assert Browser(app).log_in(password="wrong").status_code == 429
    assert Browser(app, "192.0.2.2").log_in().status_code == 303


def test_a_name_counts_however_it_is_spelled_and_a_network_of_ipv6_as_one_client(app):
    for attempt in range(5):
        Browser(app, f"192.0.2.{attempt}").log_in([OPERATOR.upper(), f" {OPERATOR}"][attempt % 2], "wrong")
    assert Browser(app, "192.0.2.99").log_in().status_code == 429
    for attempt in range(20):
        Browser(app, f"2001:db8::{attempt}").log_in(f"name {attempt}", "wrong")
    assert Browser(app, "2001:db8::99").log_in(VIEWER).status_code == 429
    assert Browser(app, "2001:db8:0:1::99").log_in(VIEWER).status_code == 303


def test_log_ins_to_the_page_and_to_accounts_count_apart(app):
    for attempt in range(6):
        wrong = {"email_address": OPERATOR, "password": "wrong"}
        answer = app.test_client().post("/login", json=wrong, environ_overrides={"REMOTE_ADDR": f"192.0.2.{attempt}"})
        assert answer.status_code == 401
    assert Browser(app).log_in().status_code == 303


@pytest.mark.parametrize(
    ("address", "header", "status"),
    [
        ("10.1.2.3", "paula", 200),
        ("10.2.0.1", "paula", 403),
        ("10.1.2.3", "", 403),
        ("10.1.2.3", "paula,olga", 403),
        ("10.1.2.3", "p" * 65, 403),
    ],
)
def test_the_proxys_word_counts_from_its_own_address_alone(other, address, header, status):
    browser = Browser(other(OPS_USERS="", **PROXY), address, **{"X-Forwarded-User": header})
    answer = browser.get("/ops")
    assert (answer.status_code, "paula" in answer.text) == (status, status == 200)


@pytest.mark.parametrize(
    ("operators", "name", "status"),
    [("", "paula", 403), ("paula", "paula", 200), ("Paula,olga", "pAULA", 200), ("paula", "VERA", 403)],
)
def test_whom_the_proxy_names_acts_only_when_listed(other, operators, name, status):
    app = other(OPS_USERS="", OPS_OPERATORS=operators, OPS_VIEWERS="vera", **PROXY)
    browser = Browser(app, "10.1.2.3", **{"X-Forwarded-User": name})
    assert browser.get("/ops").status_code == 200
    assert browser.get("/ops/actions/pause").status_code == status


def test_an_address_with_a_port_is_a_client_and_no_proxy(other):
    app = other(**PROXY)
    for attempt in range(20):
        forwarded = {"X-Forwarded-For": f"10.9.9.9, 198.51.100.7:{5000 + attempt}, 10.1.0.8:80"}
        Browser(app, "10.1.0.1", **forwarded).log_in(f"n{attempt}", "wrong")
    assert Browser(app, "10.1.0.1", **{"X-Forwarded-For": "198.51.100.7"}).log_in().status_code == 429


def test_without_the_setting_no_header_lets_anybody_in(app):
    assert not is_let_in(Browser(app, "127.0.0.1", **{"X-Forwarded-User": OPERATOR, "X-Remote-User": OPERATOR}))


def test_behind_a_proxy_the_attempts_are_those_of_the_client(other):
    app = other(**PROXY)
    for attempt in range(20):
        Browser(app, "10.1.0.1", **{"X-Forwarded-For": f"10.9.9.{attempt}, 198.51.100.7"}).log_in(
            f"n{attempt}", "wrong"
        )
    assert Browser(app, "10.1.0.1", **{"X-Forwarded-For": "198.51.100.7"}).log_in().status_code == 429
    assert Browser(app, "10.1.0.1", **{"X-Forwarded-For": "198.51.100.8"}).log_in().status_code == 303


def test_a_viewer_looks_and_does_nothing(browser, connection):
    browser.log_in(VIEWER)
    page = browser.get("/ops").text
    assert "/ops/actions/" not in page
    assert browser.get("/ops/actions/pause").status_code == 403
    answer = browser.post("/ops/actions/pause", csrf_token=_token(page), reason="mischief")
    assert answer.status_code == 403
    assert connection.execute(text("SELECT count(*) FROM retention.holds")).scalar() == 0


@pytest.mark.parametrize("sent", [{}, {"csrf_token": "made up"}])
@pytest.mark.parametrize("path", ["/ops/actions/pause", "/ops/logout", "/ops/login"])
def test_a_form_of_another_page_is_refused(browser, connection, path, sent):
    browser.log_in()
    answer = browser.post(path, reason="mischief", name=OPERATOR, password=PASSWORD, **sent)
    assert answer.status_code == 400
    assert connection.execute(text("SELECT count(*) FROM retention.holds")).scalar() == 0
    assert is_let_in(browser)


@pytest.mark.parametrize(
    "path", ["/ops", "/ops/login", "/ops/nowhere", "/ops/static/ops.css", "/health/live", "/nowhere"]
)
def test_every_answer_has_its_security_headers(browser, path):
    browser.log_in()
    answer = browser.get(path)
    headers = answer.headers
    answer.close()
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "Permissions-Policy" in headers
    if path.startswith("/ops"):
        assert headers["Cache-Control"] == ("no-cache" if "static" in path else "no-store")


def test_hsts_is_said_where_the_cookie_is_secure(other):
    assert "Strict-Transport-Security" in Browser(other(OPS_COOKIE_SECURE="true")).get("/ops/login").headers


def test_the_command_prints_a_hash_and_shows_no_password(app):
    typed = f"{PASSWORD}\n{PASSWORD}\n"
    ended = app.test_cli_runner().invoke(args=["ops", "hash-password"], input=typed)
    assert ended.exit_code == 0
    assert PASSWORD not in ended.output
    assert is_right(PASSWORD, ended.stdout.strip().splitlines()[-1])
    short = app.test_cli_runner().invoke(args=["ops", "hash-password"], input="short\nshort\n")
    assert (short.exit_code, "12 characters or more" in short.output) == (1, True)


def test_neither_key_nor_hashes_are_in_what_the_settings_show(settings):
    assert KEY not in repr(settings)
    assert "$argon2" not in repr(settings)

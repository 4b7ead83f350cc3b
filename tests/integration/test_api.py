"""Sessions over HTTP: who is let in, who is not, and what a refusal says.

Seen to fail: a row for every visitor; the age of an anonymous session not looked at; the flag not looked at by boot,
and by log-in; the row of the user not locked by log-in; a visit within the very hour; the warning not taken back; no
hash for an unknown address; the state, and the deletion that runs, not looked at; attempts counted after the hashing,
or for known addresses only; those of a client past its limit counted against addresses; the token in the body of a
browser's answer; attempts counted anew by a host whose clock is ahead.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine, create_engine, text
from werkzeug.test import TestResponse

from app.accounts import login_limits, passwords, sessions, visits
from app.accounts.tokens import token_hash
from app.db import db
from tests.concurrency import background, wait_until, waiting_for_locks
from tests.session_rows import (
    DAY,
    HOUR,
    NOW,
    PASSWORD,
    create_session,
    create_token,
    create_user,
    password_hash,
    session_ids,
    transaction,
    user,
)

SECOND = timedelta(seconds=1)
IN_DELETION = [{"in_deletion": True}, json.dumps({"in_deletion": True})]
BROWSER = {"X-Requested-With": "fetch"}


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def refusal(response: TestResponse) -> tuple[int, str]:
    """Status and code; the sentence is there, and that is all."""
    assert response.is_json, response.data
    assert set(response.json) == {"code", "message"}
    assert response.json["message"].endswith(".")
    return response.status_code, response.json["code"]


def a_user(connection: Connection, **columns: Any) -> tuple[Any, dict[str, str]]:
    """A user who can log in, and what is sent for it."""
    user_id = create_user(connection, **{"password_hash": password_hash(), **columns})
    return user_id, {"email_address": f"{user_id}@private.example.test", "password": PASSWORD}


# Boot ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"X-Requested-With": "fetch"}])
def test_of_a_visitor_without_a_token_nothing_is_kept(client, connection, headers):
    for _ in range(3):
        answer = client.get("/boot", headers=headers)
        assert (answer.status_code, answer.json) == (200, {"user": None})
    assert client.get_cookie("session") is None
    assert session_ids(connection) == set()


def test_a_session_without_a_user_that_somebody_else_made_is_recognised(client, connection):
    answer = client.get("/boot", headers=bearer(create_token(connection)))
    assert (answer.status_code, answer.json) == (200, {"user": None})


@pytest.mark.parametrize("headers", [{"X-Requested-With": "fetch"}, {"Sec-Fetch-Mode": "cors"}, {}])
def test_a_browser_gets_its_token_as_a_cookie_alone_and_another_program_in_the_body_alone(app, connection, headers):
    _, credentials = a_user(connection)
    client = app.test_client()
    answer = client.post("/login", json=credentials, headers=headers)
    assert answer.status_code == 200
    cookie = client.get_cookie("session")
    assert (cookie is not None, "token" in answer.json) == ((True, False) if headers else (False, True))


def test_a_user_is_recognised_by_the_token_and_by_the_cookie(app, client, connection):
    user_id = create_user(connection)
    token = create_token(connection, user_id)
    of_token = client.get("/boot", headers=bearer(token))
    client.set_cookie("session", token)
    of_cookie = client.get("/boot")
    assert of_token.json == of_cookie.json == {"user": {"id": str(user_id), "is_administrator": False}}
    assert of_token.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("authorization", ["Bearer nobody-has-it", "Bearer ", "Bearer", "Basic bWU6bWU=", "x" * 5000])
def test_an_unknown_token_is_refused(client, connection, authorization):
    answer = client.get("/boot", headers={"Authorization": authorization})
    assert refusal(answer) == (401, "invalid-session")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert session_ids(connection) == set()


@pytest.mark.parametrize(
    ("of_a_user", "age", "left", "lives"),
    [
        (True, 29 * DAY, SECOND * 30, True),
        (True, 29 * DAY, -SECOND, False),
        (False, DAY - SECOND * 30, DAY, True),
        (False, DAY + SECOND, 30 * DAY, False),
        (False, HOUR, -SECOND, False),
    ],
)
def test_a_dead_session_lets_nobody_in_though_its_row_is_still_there(client, connection, of_a_user, age, left, lives):
    now = datetime.now(UTC)
    user_id = create_user(connection) if of_a_user else None
    token = create_token(connection, user_id, created_at=now - age, expires_at=now + left)
    client.set_cookie("session", token)
    answer = client.get("/boot")
    if lives:
        assert answer.status_code == 200
    else:
        assert refusal(answer) == (401, "invalid-session")
        assert client.get_cookie("session") is None, "a script could not take it away"


@pytest.mark.parametrize(
    ("seen_before", "written"),
    [(None, True), (HOUR + SECOND, True), (HOUR, True), (HOUR - SECOND, False), (SECOND, False)],
)
def test_a_visit_is_written_at_most_once_an_hour(app, connection, seen_before, written):
    before = None if seen_before is None else NOW - seen_before
    user_id = create_user(connection, last_visit_at=before)
    with db.transaction() as own:
        assert visits.record_visit(own, user_id, NOW) is written
    assert user(connection, user_id)["last_visit_at"] == (NOW if written else before)


def test_a_visit_takes_the_warning_back(client, connection):
    warned = {
        "last_visit_at": datetime.now(UTC) - timedelta(minutes=5),
        "deletion_warning_sent_at": datetime.now(UTC) - timedelta(minutes=1),
        "deletion_warning_attempts": 2,
        "deletion_warning_failure": "MessageRejected",
    }
    user_id = create_user(connection, **warned)
    other = create_user(connection, **warned)
    client.get("/boot", headers=bearer(create_token(connection, user_id)))
    found = user(connection, user_id)
    assert [found[name] for name in warned if name != "last_visit_at"] == [None, 0, None]
    assert found["last_visit_at"] > warned["last_visit_at"]
    assert {name: user(connection, other)[name] for name in warned} == warned


@pytest.mark.parametrize("flags", IN_DELETION)
def test_a_session_that_is_alive_by_a_race_is_refused_when_its_account_is_in_deletion(client, connection, flags):
    user_id = create_user(connection, flags=flags)
    answer = client.get("/boot", headers=bearer(create_token(connection, user_id)))
    assert refusal(answer) == (403, "account-in-deletion")
    assert user(connection, user_id)["last_visit_at"] is None


@pytest.mark.parametrize("flags", [{}, {"in_deletion": False}, "{}", "no json", [1], {"in_deletion": 7}])
def test_flags_that_say_nothing_of_a_deletion_keep_nobody_out(client, connection, flags):
    user_id, credentials = a_user(connection, flags=flags)
    assert client.get("/boot", headers=bearer(create_token(connection, user_id))).status_code == 200
    assert client.post("/login", json=credentials).status_code == 200


# Logging in and out -------------------------------------------------------------------------------------------------


def test_logging_in_gives_a_session_of_thirty_days_in_place_of_the_anonymous_one(client, connection):
    user_id, credentials = a_user(connection)
    anonymous = create_token(connection)
    client.set_cookie("session", anonymous)
    answer = client.post("/login", json=credentials, headers=BROWSER)
    assert (answer.status_code, answer.json["user"]) == (200, {"id": str(user_id)})
    kept = connection.execute(text("SELECT * FROM user_sessions")).mappings().one()
    assert (bytes(kept["token_hash"]), kept["user_id"]) == (token_hash(client.get_cookie("session").value), user_id)
    assert kept["expires_at"] - kept["created_at"] == 30 * DAY
    assert client.get("/boot").json["user"]["id"] == str(user_id), "by the cookie"
    assert refusal(client.get("/boot", headers=bearer(anonymous))) == (401, "invalid-session")
    assert user(connection, user_id)["last_visit_at"] is not None


@pytest.mark.parametrize("change", [{"password": "another"}, {"email_address": "nobody@private.example.test"}])
def test_an_unknown_address_and_a_wrong_password_get_the_same_answer(client, connection, change, monkeypatch):
    _, credentials = a_user(connection)
    work: list[str] = []
    hasher = passwords._hasher
    monkeypatch.setattr(passwords, "_hasher", Counted(hasher, work))
    answer = client.post("/login", json={**credentials, **change})
    assert refusal(answer) == (401, "wrong-credentials")
    assert answer.json["message"] == "The address or the password is wrong."
    assert (work, session_ids(connection)) == (["verified"], set())


class Counted:
    """A hasher that notes its work."""

    def __init__(self, hasher: Any, work: list[str]) -> None:
        self._hasher, self._work = hasher, work

    def verify(self, kept: str, password: str) -> bool:
        self._work.append("verified")
        return self._hasher.verify(kept, password)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hasher, name)


@pytest.mark.parametrize("kept", [None, "$2b$12$a-hash-of-another-kind"])
def test_an_account_without_a_password_of_ours_lets_nobody_in(client, connection, kept):
    _, credentials = a_user(connection, password_hash=kept)
    for password in (PASSWORD, "the password of nobody"):
        answer = client.post("/login", json={**credentials, "password": password})
        assert refusal(answer) == (401, "wrong-credentials")


def test_a_password_is_hashed_anew_when_the_parameters_have_changed(client, connection):
    weak = passwords.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    user_id, credentials = a_user(connection, password_hash=weak)
    assert client.post("/login", json=credentials).status_code == 200
    kept = user(connection, user_id)["password_hash"]
    assert kept.startswith("$argon2id$")
    assert (passwords.is_outdated(kept), passwords.is_right(PASSWORD, kept)) == (False, True)


@pytest.mark.parametrize("flags", IN_DELETION)
def test_who_knows_the_password_of_an_account_in_deletion_is_told_so(client, connection, flags):
    user_id, credentials = a_user(connection, flags=flags)
    assert refusal(client.post("/login", json=credentials)) == (403, "account-in-deletion")
    wrong = client.post("/login", json={**credentials, "password": "another"})
    assert refusal(wrong) == (401, "wrong-credentials")
    assert session_ids(connection) == set()
    assert user(connection, user_id)["last_visit_at"] is None


def test_a_deletion_that_runs_lets_nobody_in_whatever_the_flags_say_by_now(client, connection):
    user_id, credentials = a_user(connection, flags={"in_deletion": True})
    connection.execute(text("UPDATE user_deletions SET state = 'running', rows_done = 1"))
    connection.execute(text("UPDATE users SET flags = '{}'  WHERE id = :id"), {"id": user_id})
    by_a_race = bearer(create_token(connection, user_id))
    before = session_ids(connection)
    assert refusal(client.post("/login", json=credentials)) == (403, "account-in-deletion")
    assert refusal(client.get("/boot", headers=by_a_race)) == (403, "account-in-deletion")
    assert refusal(client.post("/users/me/export", headers=by_a_race)) == (403, "account-in-deletion")
    assert session_ids(connection) == before
    connection.execute(text("UPDATE user_deletions SET state = 'complete'"))
    assert client.get("/boot", headers=by_a_race).status_code == 200, "that was an account of before"


@pytest.mark.parametrize("state", ["pending", "inactive"])
def test_who_knows_the_password_of_an_account_that_is_not_active_is_told_so(client, connection, state):
    user_id, credentials = a_user(connection, state=state)
    assert refusal(client.post("/login", json=credentials)) == (403, "account-not-active")
    wrong = client.post("/login", json={**credentials, "password": "another"})
    assert refusal(wrong) == (401, "wrong-credentials")
    assert session_ids(connection) == set()
    assert user(connection, user_id)["last_visit_at"] is None


@pytest.mark.parametrize(("state", "is_refused"), [("active", False), ("pending", False), ("inactive", True)])
def test_a_session_of_an_account_that_is_switched_off_lets_nobody_in(client, connection, state, is_refused):
    token = bearer(create_token(connection, create_user(connection, state=state)))
    for answer in (client.get("/boot", headers=token), client.get("/users/me/exports", headers=token)):
        if is_refused:
            assert refusal(answer) == (403, "account-not-active")
        else:
            assert answer.status_code == 200


# How often ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def limits(app: Flask) -> None:
    """Few attempts: three with an address, five from a client."""
    made = app.extensions["accounts.tools"]
    changes = {"login_attempts_per_account": 3, "login_attempts_per_client": 5}
    app.extensions["accounts.tools"] = type(made)(made.settings.model_copy(update=changes))


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    work: list[str] = []
    monkeypatch.setattr(passwords, "_hasher", Counted(passwords._hasher, work))
    return work


@pytest.mark.parametrize("is_known", [True, False])
def test_an_address_has_so_many_attempts_known_or_not_and_then_costs_no_hashing(
    client, connection, limits, hashing, is_known
):
    _, credentials = a_user(connection)
    if not is_known:
        credentials["email_address"] = "nobody@private.example.test"
    wrong = {**credentials, "password": "another"}
    for number in range(3):
        assert refusal(login_from(client, wrong, f"10.0.0.{number}")) == (401, "wrong-credentials")
    for number in range(3):
        answer = login_from(client, credentials, f"10.0.1.{number}")
        assert refusal(answer) == (429, "too-many-attempts")
        assert 14 * 60 < int(answer.headers["Retry-After"]) <= 15 * 60
    assert hashing == ["verified"] * 3
    spelled = {**credentials, "email_address": f" {credentials['email_address'].upper()} "}
    assert refusal(login_from(client, spelled, "10.0.2.1")) == (429, "too-many-attempts")


def test_a_client_has_so_many_failed_attempts_and_then_locks_nobody_else_out(client, connection, limits, hashing):
    users = [a_user(connection)[1] for _ in range(7)]
    for credentials in users[:5]:
        assert login_from(client, {**credentials, "password": "another"}, "10.0.0.1").status_code == 401
    for _ in range(4):
        assert refusal(login_from(client, users[6], "10.0.0.1")) == (429, "too-many-attempts")
    assert len(hashing) == 5
    assert login_from(client, users[6], "10.0.0.2").status_code == 200, "nor did that count against the address"


def test_a_web_process_whose_clock_is_ahead_begins_no_count_anew(connection, limits):
    for _ in range(3):
        login_limits.count(login_limits.ACCOUNTS, "somebody", None, datetime.now(UTC))
    with pytest.raises(login_limits.TooManyAttempts) as limited:
        login_limits.count(login_limits.ACCOUNTS, "somebody", None, datetime.now(UTC) + timedelta(days=31))
    assert 14 * 60 < limited.value.seconds <= 15 * 60


def test_who_knows_the_password_begins_anew_and_the_client_is_not_charged(client, connection, limits):
    _, credentials = a_user(connection)
    for number in range(3):
        for _ in range(2):
            assert login_from(client, {**credentials, "password": "another"}, f"10.0.1.{number}").status_code == 401
        assert login_from(client, credentials, f"10.0.1.{number}").status_code == 200
    for _ in range(12):
        assert login_from(client, credentials, "10.0.0.1").status_code == 200


@pytest.mark.parametrize(("minutes", "is_over"), [(15, True), (14, False)])
def test_attempts_are_forgotten_when_their_time_is_up(client, connection, limits, minutes, is_over):
    _, credentials = a_user(connection)
    for _ in range(4):
        login_from(client, {**credentials, "password": "another"}, "10.0.0.1")
    connection.execute(
        text("UPDATE retention.login_attempts SET ends_at = ends_at - make_interval(mins => :minutes)"),
        {"minutes": minutes},
    )
    assert login_from(client, credentials, "10.0.0.1").status_code == (200 if is_over else 429)


def test_attempts_at_once_are_all_counted(app, connection, limits):
    _, credentials = a_user(connection)

    def attempt(number: int) -> int:
        wrong = {**credentials, "password": "another"}
        return login_from(app.test_client(), wrong, f"10.0.0.{number}").status_code

    with background(app) as start:
        answers = [one.result() for one in [start(attempt, number) for number in range(8)]]
    assert sorted(answers) == [401] * 3 + [429] * 5


def test_what_is_kept_of_attempts_names_nobody(client, connection, limits, capsys):
    _, credentials = a_user(connection, email_address="someone.private@example.test")
    credentials["email_address"] = "someone.private@example.test"
    for _ in range(5):
        login_from(client, {**credentials, "password": "another"}, "203.0.113.77")
    kept = connection.execute(text("SELECT l::text FROM retention.login_attempts AS l")).scalars().all()
    assert len(kept) == 2
    for private in ("someone", "203.0.113.77"):
        assert private not in f"{kept}{capsys.readouterr().out}"
        assert private.encode().hex() not in str(kept)


def test_behind_a_proxy_the_attempts_are_those_of_the_client(app, client, connection, limits, monkeypatch):
    trusting = app.extensions["settings"].model_copy(update={"trusted_proxies": ("10.1.0.0/16",)})
    monkeypatch.setitem(app.extensions, "settings", trusting)
    users = [a_user(connection)[1] for _ in range(6)]

    def login_through(credentials: dict[str, str], forwarded: str, proxy: str = "10.1.0.1") -> int:
        headers = {"X-Forwarded-For": forwarded}
        answer = client.post("/login", json=credentials, headers=headers, environ_overrides={"REMOTE_ADDR": proxy})
        return answer.status_code

    for number, credentials in enumerate(users[:5]):
        assert login_through({**credentials, "password": "another"}, f"10.9.9.{number}, 198.51.100.7") == 401
    assert login_through(users[5], "198.51.100.7") == 429
    assert login_through(users[5], "198.51.100.8") == 200
    assert login_through(users[5], "198.51.100.7", proxy="10.2.0.1") == 200, "that is no proxy, and its word no news"


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("unknown", "unknown", True),
    ],
)
def test_a_household_of_ipv6_addresses_is_one_client(one, other, is_same):
    assert (login_limits.network_of(one) == login_limits.network_of(other)) is is_same


def login_from(client: FlaskClient, credentials: dict[str, str], address: str | None) -> TestResponse:
    return client.post("/login", json=credentials, environ_overrides={"REMOTE_ADDR": address})


# Races --------------------------------------------------------------------------------------------------------------


def test_a_mark_while_somebody_logs_in_leaves_no_session(app, connection):
    """The log-in has checked the password, and waits for the row that the mark has changed."""
    user_id, credentials = a_user(connection)

    def log_in() -> Any:
        with pytest.raises(sessions.InDeletion):
            sessions.log_in(*credentials.values(), now=datetime.now(UTC))

    with background(app) as start:
        with transaction(connection) as marking:
            marking.execute(text("UPDATE users SET flags = '{\"in_deletion\": true}' WHERE id = :id"), {"id": user_id})
            logging_in = start(log_in)
            wait_until(lambda: waiting_for_locks(connection) == 1)
        logging_in.result(timeout=30)
    assert session_ids(connection) == set()


def test_logging_out_ends_this_session_only(client, connection):
    user_id = create_user(connection)
    token, other = create_token(connection, user_id), create_session(connection, user_id)
    client.set_cookie("session", token)
    assert client.post("/logout", headers=BROWSER).status_code == 204
    assert session_ids(connection) == {other}
    assert client.get_cookie("session") is None
    assert refusal(client.post("/logout")) == (401, "no-credentials")
    assert refusal(client.post("/logout", headers=bearer(token))) == (401, "invalid-session")


def test_a_cookie_changes_nothing_without_the_header_that_another_site_cannot_set(client, connection):
    _, credentials = a_user(connection)
    session = create_token(connection, create_user(connection))
    client.set_cookie("session", session)
    before = session_ids(connection)
    assert refusal(client.post("/logout")) == (403, "csrf")
    assert refusal(client.post("/login", json=credentials)) == (403, "csrf")
    assert session_ids(connection) == before
    assert client.post("/logout", headers=bearer(session)).status_code == 204


@pytest.mark.parametrize(("site", "secure"), [("http://localhost:8080", False), ("https://notify.example.test", True)])
def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(app, connection, site, secure, monkeypatch):
    _, credentials = a_user(connection)
    settings = app.extensions["settings"].model_copy(update={"site_url": site})
    monkeypatch.setitem(app.extensions, "settings", settings)
    cookie = app.test_client().post("/login", json=credentials, headers=BROWSER).headers["Set-Cookie"]
    attributes = set(cookie.split("; ")[1:])
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= attributes
    assert ("Secure" in attributes) is secure


# What makes no sense ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed-json"),
        (b"{", "malformed-json"),
        (b"\xff", "malformed-json"),
        (b"[" * 60_000, "malformed-json"),
        (b"[]", "malformed-request"),
        (b"null", "malformed-request"),
        (b"{}", "malformed-request"),
        (b'{"email_address": "a@b.c"}', "malformed-request"),
        (b'{"email_address": "a@b.c", "password": 7}', "malformed-request"),
        (b'{"email_address": "a@b.c", "password": ""}', "malformed-request"),
        (b'{"email_address": "a\\u0000", "password": "p"}', "malformed-request"),
        (b'{"email_address": "a@b.c", "password": "\\ud800"}', "malformed-request"),
        (b'{"email_address": "a@b.c", "password": "%s"}' % (b"p" * 1025), "malformed-request"),
    ],
)
def test_a_body_that_makes_no_sense_is_refused(client, body, code):
    assert refusal(client.post("/login", data=body, content_type="application/json")) == (400, code)


def test_a_form_of_another_site_is_not_taken_for_json(client, connection):
    _, credentials = a_user(connection)
    answer = client.post("/login", data=json.dumps(credentials), content_type="text/plain")
    assert refusal(answer) == (415, "not-json")


def test_what_flask_itself_refuses_is_json_too(client):
    assert refusal(client.get("/nowhere")) == (404, "not-found")
    not_allowed = client.get("/login")
    assert refusal(not_allowed) == (405, "method-not-allowed")
    assert "POST" in not_allowed.headers["Allow"]
    too_large = client.post("/login", data=b"x" * 70_000, content_type="application/json")
    assert refusal(too_large) == (413, "request-entity-too-large")


def test_an_error_of_ours_says_nothing_of_what_was_sent(app, client, monkeypatch, capsys):
    def fail(*_: Any) -> None:
        raise ValueError("someone.private@example.test")

    monkeypatch.setattr(sessions, "find", fail)
    answer = client.get("/boot", headers=bearer("the-token-itself"))
    assert refusal(answer) == (500, "internal-error")
    logged = capsys.readouterr().out
    assert "request-failed" in logged
    assert "ValueError" in logged
    for private in ("someone.private", "the-token-itself"):
        assert private not in logged + answer.text


def test_a_database_that_is_away_is_said_so(app, client, monkeypatch):
    with closing_engine("postgresql+psycopg2://me:secret-word@127.0.0.1:1/nowhere") as nowhere:
        monkeypatch.setitem(app.extensions, "db.engine", nowhere)
        answer = client.get("/boot", headers=bearer("a-token"))
        monkeypatch.undo()
    assert refusal(answer) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "5"
    assert "secret-word" not in answer.text


@contextmanager
def closing_engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    yield engine
    engine.dispose()

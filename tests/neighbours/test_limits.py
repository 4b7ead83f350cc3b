"""What a visitor and a user may have of the API: requests without a session, and sessions.

Seen to fail without each limit: five log-ins left five living sessions; a visitor's requests were answered without end.
"""

import pytest
from flask import Flask
from sqlalchemy import Connection, text

from app.accounts import sessions
from tests.integration.test_api import bearer, refusal
from tests.session_rows import PASSWORD, create_session, create_token, create_user, password_hash, session_ids

MOST_SESSIONS, MOST_REQUESTS = 3, 5


@pytest.fixture
def settings_override() -> dict[str, str]:
    return {
        "SESSIONS_PER_USER": str(MOST_SESSIONS),
        "ANONYMOUS_REQUESTS_PER_MINUTE": str(MOST_REQUESTS),
        "TRUSTED_PROXIES": "10.1.0.0/16",
    }


@pytest.fixture(autouse=True)
def within_a_minute(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.visitors.SECONDS", 10**9)


def test_one_more_log_in_ends_the_oldest_session_of_this_user_alone(app, connection):
    user_id = create_user(connection, password_hash=password_hash())
    others = {create_session(connection, create_user(connection)), create_session(connection)}
    address = f"{user_id}@private.example.test"
    opened = [sessions.log_in(address, PASSWORD, connection.execute(text("SELECT now()")).scalar()) for _ in range(5)]
    kept = [sessions.find(one.token, one.expires_at.replace(year=2020)) is not None for one in opened]
    assert kept == [False, False, True, True, True]
    assert len(session_ids(connection) - others) == MOST_SESSIONS
    assert others < session_ids(connection)


@pytest.mark.parametrize("path", ["/boot", "/users/me/exports", "/exports/guessed"])
def test_a_client_without_a_session_is_answered_so_often_in_a_minute(app, connection, path):
    def ask(address: str, **headers: str) -> int:
        client = app.test_client(use_cookies=False)
        answer = client.get(path, headers=headers, environ_overrides={"REMOTE_ADDR": address})
        if answer.status_code == 429:
            assert refusal(answer) == (429, "too-many-requests")
            assert int(answer.headers["Retry-After"]) >= 1
        return answer.status_code

    dead = {"Authorization": "Bearer dead"}
    assert 429 not in [ask("192.0.2.1", **(dead if number % 2 else {})) for number in range(MOST_REQUESTS)]
    before = len(session_ids(connection))
    assert {ask("192.0.2.1"), ask("192.0.2.1", **{"X-Forwarded-For": "192.0.2.9"})} == {429}
    assert ask("10.1.0.1", **{"X-Forwarded-For": "192.0.2.1:5000"}) == 429
    assert ask("192.0.2.2") != 429
    assert len(session_ids(connection)) <= before + 1


def test_a_user_is_not_counted(app, connection: Connection):
    caller = bearer(create_token(connection, create_user(connection)))
    assert {app.test_client().get("/boot", headers=caller).status_code for _ in range(2 * MOST_REQUESTS)} == {200}

"""Exports over HTTP: asked for once at a time, seen by their owner alone."""

from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection, text

from tests.integration.test_api import BROWSER, bearer, refusal
from tests.session_rows import create_token, create_user


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def export_states(connection: Connection) -> list[str]:
    return list(connection.execute(text("SELECT state FROM user_exports")).scalars())


def test_an_export_is_asked_for_and_its_state_can_be_seen(client, connection):
    caller = bearer(create_token(connection, create_user(connection)))
    asked = client.post("/users/me/export", headers=caller)
    assert (asked.status_code, asked.json["state"]) == (202, "requested")
    one = client.get(f"/users/me/exports/{asked.json['id']}", headers=caller)
    everything = client.get("/users/me/exports", headers=caller)
    assert one.json == everything.json["exports"][0]
    assert one.json | {"requested_at": None} == {
        "id": asked.json["id"],
        "state": "requested",
        **dict.fromkeys(("requested_at", "ready_at", "expires_at", "files", "files_left_out", "file")),
    }


@pytest.mark.parametrize(
    ("state", "expires_in", "is_there"),
    [("ready", "1 hour", True), ("ready", "-1 second", False), ("expired", "1 hour", False), ("failed", "1 h", False)],
)
def test_a_ready_export_of_ones_own_says_where_it_is_and_what_it_holds(client, connection, state, expires_in, is_there):
    caller = bearer(create_token(connection, create_user(connection)))
    export_id = client.post("/users/me/export", headers=caller).json["id"]
    connection.execute(
        text(
            "UPDATE user_exports SET state = :state, files = 7, files_left_out = 2, "
            "expires_at = now() + CAST(:expires_in AS interval)"
        ),
        {"state": state, "expires_in": expires_in},
    )
    (listed,) = client.get("/users/me/exports", headers=caller).json["exports"]
    assert listed["file"] == (f"/users/me/exports/{export_id}/file" if is_there else None)
    assert (listed["files"], listed["files_left_out"]) == (7, 2)


def test_a_second_request_is_answered_with_the_one_under_way(client, connection):
    caller = bearer(create_token(connection, create_user(connection)))
    answers = [client.post("/users/me/export", headers=caller) for _ in range(3)]
    assert {(answer.status_code, answer.json["id"]) for answer in answers} == {(202, answers[0].json["id"])}
    assert export_states(connection) == ["requested"]


READY = text(
    "UPDATE user_exports SET state = 'ready', object_key = 'exports/x.zip', expires_at = now() + interval '1 day'"
)


def test_the_file_is_its_owners_alone_by_a_link_that_is_kept_nowhere(client, connection):
    owner, other = (bearer(create_token(connection, create_user(connection))) for _ in range(2))
    export_id = client.post("/users/me/export", headers=owner).json["id"]
    path = f"/users/me/exports/{export_id}/file"
    assert refusal(client.get(path, headers=owner)) == (404, "unknown-export"), "not made yet"
    connection.execute(READY)
    answer = client.get(path, headers=owner)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (302, "no-store")
    assert "X-Amz-Expires=60" in answer.headers["Location"]
    assert refusal(client.get(path, headers=other)) == (404, "unknown-export")
    assert refusal(client.get(path)) == (401, "no-credentials")
    connection.execute(text("UPDATE user_exports SET expires_at = now()"))
    assert refusal(client.get(path, headers=owner)) == (404, "unknown-export")
    assert refusal(client.get(f"/exports/{export_id}")) == (404, "unknown-export")


def test_no_answer_about_exports_is_kept_anywhere(client, connection):
    caller = bearer(create_token(connection, create_user(connection)))
    for method, path in (("POST", "export"), ("GET", "exports"), ("GET", f"exports/{uuid4()}"), ("GET", "exports/7")):
        answer = client.open(f"/users/me/{path}", method=method, headers=caller)
        assert answer.headers["Cache-Control"] == "no-store"


def test_the_export_of_somebody_else_is_not_there(client, connection):
    owner, other = (bearer(create_token(connection, create_user(connection))) for _ in range(2))
    export_id = client.post("/users/me/export", headers=owner).json["id"]
    for unknown in (export_id, uuid4()):
        answer = client.get(f"/users/me/exports/{unknown}", headers=other)
        assert refusal(answer) == (404, "unknown-export")
    assert client.get("/users/me/exports", headers=other).json == {"exports": []}
    assert refusal(client.get("/users/me/exports/7", headers=other)) == (400, "malformed-id")


def test_who_is_not_logged_in_gets_no_export(client, connection):
    for method, path in (("POST", "export"), ("GET", "exports"), ("GET", f"exports/{uuid4()}")):
        assert refusal(client.open(f"/users/me/{path}", method=method)) == (401, "no-credentials")
    assert export_states(connection) == []


def test_an_account_in_deletion_gets_no_export_by_a_race(client, connection):
    token = create_token(connection, create_user(connection, flags={"in_deletion": True}))
    assert refusal(client.post("/users/me/export", headers=bearer(token))) == (403, "account-in-deletion")
    assert export_states(connection) == []


def test_a_cookie_asks_for_nothing_without_the_header(client, connection):
    client.set_cookie("session", create_token(connection, create_user(connection)))
    assert refusal(client.post("/users/me/export")) == (403, "csrf")
    assert client.post("/users/me/export", headers=BROWSER).status_code == 202

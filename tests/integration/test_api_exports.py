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
    assert set(one.json) == {"id", "state", "requested_at", "ready_at", "expires_at"}
    assert (one.json["id"], one.json["state"], one.json["ready_at"]) == (asked.json["id"], "requested", None)


def test_a_second_request_is_refused_while_one_is_under_way(client, connection):
    caller = bearer(create_token(connection, create_user(connection)))
    client.post("/users/me/export", headers=caller)
    assert refusal(client.post("/users/me/export", headers=caller)) == (409, "wrong-state")
    assert export_states(connection) == ["requested"]


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

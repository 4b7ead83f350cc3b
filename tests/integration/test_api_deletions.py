"""Deleting accounts over HTTP: who may, what the answers are, and that a refusal changes nothing."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection, insert, text

from app.models import GHOST_USER_ID, Permission, UserToService
from tests.factories import create_service
from tests.integration.test_api import BROWSER, bearer, refusal
from tests.session_rows import NOW, create_session, create_token, create_user, session_ids, user


@pytest.fixture
def settings_override() -> dict[str, str]:
    return {"ACCOUNT_REQUEST_SECONDS": "60"}


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def users(connection: Connection) -> set[UUID]:
    return set(connection.execute(text("SELECT id FROM users")).scalars()) - {GHOST_USER_ID}


def manage(connection: Connection, user_id: UUID) -> UUID:
    """A live service that only this user manages."""
    service = create_service(connection)
    connection.execute(insert(UserToService).values(user_id=user_id, service_id=service))
    connection.execute(
        insert(Permission).values(service_id=service, user_id=user_id, permission="manage_service", created_at=NOW)
    )
    return service


def administrator(connection: Connection) -> dict[str, str]:
    return bearer(create_token(connection, create_user(connection, platform_admin=True)))


def test_users_delete_their_own_account(client, connection):
    user_id, other = create_user(connection), create_user(connection)
    create_session(connection, user_id)
    others = create_session(connection, other)
    client.set_cookie("session", create_token(connection, user_id))
    answer = client.delete("/users/me", headers=BROWSER)
    assert (answer.status_code, answer.json["state"]) == (200, "complete")
    assert answer.json["user_id"] == str(user_id)
    assert client.get_cookie("session") is None
    assert (users(connection), session_ids(connection)) == ({other}, {others})


def test_a_larger_account_is_left_to_the_workers_and_refused_from_then_on(app, client, connection):
    user_id = create_user(connection)
    token = create_token(connection, user_id)
    for _ in range(3):
        create_session(connection, user_id)
    app.extensions["accounts.tools"] = type(app.extensions["accounts.tools"])(
        app.extensions["settings"].model_copy(update={"account_items_in_request": 1})
    )
    connection.execute(text("INSERT INTO login_events VALUES (gen_random_uuid(), :id, '{}', now())"), {"id": user_id})
    answer = client.delete("/users/me", headers=bearer(token))
    assert (answer.status_code, answer.json["state"]) == (202, "requested")
    assert refusal(client.get("/boot", headers=bearer(token))) == (401, "invalid-session")
    by_a_race = bearer(create_token(connection, user_id))
    assert refusal(client.get("/boot", headers=by_a_race)) == (403, "account-in-deletion")
    again = client.delete("/users/me", headers=by_a_race)
    assert (again.status_code, again.json) == (202, answer.json), "twice is the same as once"


def test_an_administrator_deletes_any_account_and_twice_is_the_same_as_once(client, connection):
    user_id, caller = create_user(connection), administrator(connection)
    answers = [client.post(f"/users/{user_id}/deletion", headers=caller) for _ in range(2)]
    assert [(answer.status_code, answer.json["state"]) for answer in answers] == [(200, "complete")] * 2
    assert user_id not in users(connection)
    asked = connection.execute(text("SELECT requested_by FROM user_deletions WHERE user_id = :id"), {"id": user_id})
    assert asked.scalars().all() == ["administrator"]


@pytest.mark.parametrize("path", ["/users/me", "/users/{id}/deletion", "/users/no-id/deletion"])
def test_nobody_deletes_without_logging_in(client, connection, path):
    user_id = create_user(connection)
    method = "DELETE" if path.endswith("me") else "POST"
    anonymous = create_token(connection)
    for headers, code in (
        ({}, "no-credentials"),
        (bearer(anonymous), "no-credentials"),
        (bearer("nobody-has-it"), "invalid-session"),
    ):
        assert refusal(client.open(path.format(id=user_id), method=method, headers=headers)) == (401, code)
    assert users(connection) == {user_id}


@pytest.mark.parametrize(
    "written",
    ["7", "me", "not-an-id", GHOST_USER_ID.hex, f"{{{GHOST_USER_ID}}}", f"urn:uuid:{GHOST_USER_ID}", "%00"],
)
def test_a_malformed_id_is_refused(client, connection, written):
    answer = client.post(f"/users/{written}/deletion", headers=administrator(connection))
    assert refusal(answer) == (400, "malformed-id")


def test_somebody_elses_account_is_for_administrators_only(client, connection):
    whom, caller = create_user(connection), create_user(connection)
    answers = [
        client.post(f"/users/{one}/deletion", headers=bearer(create_token(connection, caller)))
        for one in (whom, uuid4(), GHOST_USER_ID)
    ]
    assert [refusal(answer) for answer in answers] == [(403, "not-yours")] * 3, "nor is said who there is"
    assert users(connection) == {whom, caller}


def test_an_unknown_user_is_404_and_the_ghost_409(client, connection):
    caller = administrator(connection)
    assert refusal(client.post(f"/users/{uuid4()}/deletion", headers=caller)) == (404, "unknown-user")
    assert refusal(client.post(f"/users/{GHOST_USER_ID}/deletion", headers=caller)) == (409, "ghost-user")


def test_the_only_manager_of_a_live_service_is_told_so_and_nothing_changes(client, connection):
    user_id = create_user(connection)
    service = manage(connection, user_id)
    token = create_token(connection, user_id)
    before = (user(connection, user_id), session_ids(connection))
    for answer in (
        client.delete("/users/me", headers=bearer(token)),
        client.post(f"/users/{user_id}/deletion", headers=administrator(connection)),
    ):
        assert refusal(answer) == (409, "only-manager")
        assert str(service) in answer.json["message"]
    assert user(connection, user_id) == before[0]
    assert before[1] < session_ids(connection)
    assert connection.execute(text("SELECT count(*) FROM user_deletions")).scalar() == 0


def test_a_cookie_deletes_nothing_without_the_header(client, connection):
    user_id = create_user(connection)
    client.set_cookie("session", create_token(connection, user_id))
    assert refusal(client.delete("/users/me")) == (403, "csrf")
    assert users(connection) == {user_id}


def test_logs_of_a_deletion_carry_ids_and_no_addresses(client, connection, capsys):
    user_id: Any = create_user(connection, email_address="someone.private@example.test", name="Somebody Private")
    token = create_token(connection, user_id)
    client.delete("/users/me", headers=bearer(token))
    logged = capsys.readouterr().out
    assert str(user_id) in logged
    for private in ("someone.private", "Somebody", token):
        assert private not in logged

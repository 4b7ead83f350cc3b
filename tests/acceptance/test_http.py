"""Gunicorn and HTTP: a visitor becomes a user, deletes the account, and is nobody again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

import pytest
from sqlalchemy import text

from app.local import product
from app.local.processes import Child, answers, free_port
from tests.session_rows import PASSWORD, create_user, password_hash, session_ids

SECONDS_TO_ANSWER = 30


@pytest.fixture
def site(environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The address of a web server of the test's own."""
    port = free_port()
    of_server = {**environment, "ACCOUNT_REQUEST_SECONDS": "30"}
    child = Child("web", product.web(port), log=tmp_path / "web.log", env=of_server, cwd=product.ROOT)
    try:
        child.wait_until(lambda: answers(port), timeout_seconds=60)
        yield f"http://127.0.0.1:{port}"
    finally:
        child.stop()


def ask(opener: OpenerDirector, method: str, url: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
    """Status and JSON of an answer."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    request = Request(url, None if body is None else json.dumps(body).encode(), headers, method=method)  # noqa: S310
    try:
        with opener.open(request, timeout=SECONDS_TO_ANSWER) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_a_visitor_logs_in_deletes_the_account_and_is_nobody_again(app, site, connection):
    user_id = create_user(connection, email_address="visitor@example.test", password_hash=password_hash())
    opener = build_opener(ProxyHandler({}))
    status, visitor = ask(opener, "GET", f"{site}/boot")
    assert (status, visitor["user"]) == (200, None)
    credentials = {"email_address": "visitor@example.test", "password": PASSWORD}
    status, logged_in = ask(opener, "POST", f"{site}/login", credentials, visitor["token"])
    assert (status, logged_in["user"]) == (200, {"id": str(user_id)})
    token = logged_in["token"]
    assert ask(opener, "GET", f"{site}/boot", token=token)[1]["user"]["id"] == str(user_id)
    status, deleted = ask(opener, "DELETE", f"{site}/users/me", token=token)
    assert (status, deleted["state"]) == (200, "complete")
    assert ask(opener, "GET", f"{site}/boot", token=token)[0] == 401
    assert ask(opener, "POST", f"{site}/login", credentials)[1]["code"] == "wrong-credentials"
    assert ask(opener, "GET", f"{site}/nowhere")[1]["code"] == "not-found"
    assert session_ids(connection) == set()
    assert connection.execute(text("SELECT count(*) FROM users WHERE id = :id"), {"id": user_id}).scalar() == 0

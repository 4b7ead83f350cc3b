"""Gunicorn and HTTP: a visitor becomes a user, deletes the account, and is nobody again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, ProxyHandler, Request, build_opener

import pytest
from sqlalchemy import text

from dev import product
from dev.processes import answers, free_port
from tests.forkserver import worker_process
from tests.ops import FORM_TOKEN, OPERATOR, ops_settings
from tests.session_rows import PASSWORD, create_user, password_hash, session_ids

SECONDS_TO_ANSWER = 30


@pytest.fixture
def site(environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The address of a web server of the test's own."""
    port = free_port()
    of_server = {**environment, "ACCOUNT_REQUEST_SECONDS": "30"}
    child = worker_process("web", product.web(port), log=tmp_path / "web.log", env=of_server, cwd=product.ROOT)
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


def test_everything_that_the_web_process_logs_is_an_event(app, environment, tmp_path):
    """Gunicorn's own lines, too, and what is logged while a request is answered: collectors of logs read JSON."""
    port = free_port()
    log = tmp_path / "web.log"
    of_server = {**environment, **ops_settings(), "LOG_FORMAT": "json"}
    child = worker_process("web", product.web(port), log=log, env=of_server, cwd=product.ROOT)
    try:
        child.wait_until(lambda: answers(port), timeout_seconds=60)
        assert _log_in_wrongly(f"http://127.0.0.1:{port}") == 401
    finally:
        child.stop()
    lines = log.read_text().splitlines()
    assert [line for line in lines if not line.startswith("{")] == []
    events = [json.loads(line) for line in lines]
    assert {"ops-login-refused"} <= {one["event"] for one in events}
    assert any(one["event"].startswith("Starting gunicorn") and one["logger"] == "gunicorn.error" for one in events)
    assert all({"event", "level", "timestamp"} <= one.keys() for one in events)


def _log_in_wrongly(site: str) -> int:
    opener = build_opener(ProxyHandler({}), HTTPCookieProcessor())
    with opener.open(f"{site}/ops/login", timeout=SECONDS_TO_ANSWER) as form:
        (token,) = FORM_TOKEN.findall(form.read().decode())
    fields = urlencode({"csrf_token": token, "name": OPERATOR, "password": "wrong"}).encode()
    headers = {"Origin": site}
    try:
        opener.open(Request(f"{site}/ops/login", fields, headers), timeout=SECONDS_TO_ANSWER).close()  # noqa: S310
    except HTTPError as error:
        with error:
            return error.code
    return 200


def test_a_visitor_logs_in_deletes_the_account_and_is_nobody_again(app, site, connection):
    user_id = create_user(connection, email_address="visitor@example.test", password_hash=password_hash())
    opener = build_opener(ProxyHandler({}))
    status, visitor = ask(opener, "GET", f"{site}/boot")
    assert (status, visitor) == (200, {"user": None})
    credentials = {"email_address": "visitor@example.test", "password": PASSWORD}
    status, logged_in = ask(opener, "POST", f"{site}/login", credentials)
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

"""docs/openapi.yaml and the application say the same, whatever is sent: every answer is one that is described.

Seen to fail: a path left out; a status left out; a field more; an answer of 500; an id that is none,
answered with 500; a form that is taken for JSON.
"""

from typing import Any

import pytest
import schemathesis
import yaml
from flask import Flask
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from dev.product import ROOT
from tests.session_rows import create_token, create_user

DOCUMENT = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())
OPERATIONS = [
    f"{method.upper()} {path}"
    for path, methods in DOCUMENT["paths"].items()
    for method in methods
    if method in ("get", "post", "put", "patch", "delete")
]
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
EXAMPLES = 9
OF_PEOPLE = "/ops"


@pytest.fixture
def settings_override() -> dict[str, str]:
    return {
        "ANONYMOUS_REQUESTS_PER_MINUTE": "1000000",
        "LOGIN_ATTEMPTS_PER_CLIENT": "1000000",
        "METRICS_TOKEN": "a token of 16 characters",
    }


def test_every_route_of_the_application_is_in_the_document(app: Flask):
    served = {
        f"{method} {rule.rule.replace('<', '{').replace('>', '}')}"
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS") and not rule.rule.startswith((OF_PEOPLE, "/static"))
    }
    assert served == set(OPERATIONS)


LOG_IN = "POST /login"
VALID, INVALID = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
CASES = [
    *((operation, VALID, EXAMPLES) for operation in OPERATIONS),
    *(
        (operation, INVALID, 3 * EXAMPLES)
        for operation in OPERATIONS
        if operation == "POST /login" or "_id}" in operation
    ),
]
"""What has neither a body nor an id in its path takes nothing that could be invalid."""


@pytest.mark.parametrize(("operation", "mode", "examples"), CASES)
def test_every_answer_is_one_that_is_described(app, connection, operation, mode, examples):
    method, path = operation.split(" ")
    described: Any = schemathesis.openapi.from_wsgi("/openapi", _with_document(app))[path][method]

    @seed(0)
    @given(
        case=described.as_strategy(generation_mode=mode), caller=st.sampled_from(["nobody", "user", "administrator"])
    )
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any, caller: str) -> None:
        if caller != "nobody":
            token = create_token(connection, create_user(connection, platform_admin=caller == "administrator"))
            case.headers["Authorization"] = f"Bearer {token}"
        case.call_and_validate(checks=CHECKS if mode is VALID else (*CHECKS, negative_data_rejection))

    check()


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data", ""])
@pytest.mark.parametrize("body", [b"email_address=a&password=b", b"{}", b"", b"\xff\x00"])
def test_a_log_in_that_is_no_json_is_refused_as_described(app, connection, content_type, body):
    answer = app.test_client().post("/login", data=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json["code"]) == (415, "not-json")


def _with_document(app: Flask) -> Any:
    """The application, with its document at an address of its own."""

    def wsgi(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/openapi":
            body = yaml.safe_dump(DOCUMENT).encode()
            start_response("200 OK", [("Content-Type", "application/yaml"), ("Content-Length", str(len(body)))])
            return [body]
        return app.wsgi_app(environ, start_response)

    return wsgi

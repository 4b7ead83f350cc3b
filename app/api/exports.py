"""A copy of one's own data: asked for here, built in the background, its link sent by email."""

from typing import Any

from flask import Blueprint, Response, jsonify

from app import clock
from app.accounts import export
from app.api import visitors
from app.api.arguments import checked_id
from app.api.authentication import the_user
from app.api.errors import ApiError
from app.dao import export_status_dao
from app.dao.export_status_dao import Status
from app.db import db

blueprint = Blueprint("exports", __name__)


@blueprint.after_request
def _keep_nowhere(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@blueprint.post("/users/me/export")
def ask() -> Response:
    """Ask for an export (202). While one is under way it is that one, and one that was just made is as good (200)."""
    asked = export.request(the_user().user_id, clock.now())
    response = jsonify(id=str(asked.id), state=asked.state)
    response.status_code = 200 if asked.state == "ready" else 202
    return response


@blueprint.get("/users/me/exports")
def exports() -> Response:
    """The caller's exports, the newest first."""
    user = the_user()
    with db.transaction(read_only=True) as connection:
        found = export_status_dao.of_user(connection, user.user_id)
    return jsonify(exports=[_shown(status) for status in found])


@blueprint.get("/users/me/exports/<export_id>/file")
def file(export_id: str) -> Response:
    """One of the caller's exports: a redirect to object storage, good for a minute."""
    user = the_user()
    return _to(export.link_for_owner(checked_id(export_id), user.user_id, clock.now()))


@blueprint.get("/exports/<token>")
def file_of_link(token: str) -> Response:
    """The same by the link in the email. It needs no log-in: the account may be gone."""
    visitors.count()
    return _to(export.link_for_token(token, clock.now()))


@blueprint.get("/users/me/exports/<export_id>")
def status(export_id: str) -> Response:
    """How far one of the caller's exports is."""
    user = the_user()
    asked = checked_id(export_id)
    with db.transaction(read_only=True) as connection:
        found = export_status_dao.one(connection, asked, user.user_id)
    if found is None:
        raise ApiError(404, "unknown-export", "You have no such export.")
    return jsonify(_shown(found))


def _to(link: str | None) -> Response:
    if link is None:
        raise ApiError(404, "unknown-export", "There is no such export, or it can't be fetched now.")
    return Response(status=302, headers={"Location": link})


def _shown(status: Status) -> dict[str, Any]:
    """`file` is where it can be fetched, as long as it can be."""
    times = {"requested_at": status.requested_at, "ready_at": status.ready_at, "expires_at": status.expires_at}
    return {
        "id": str(status.id),
        "state": status.state,
        **{name: at and at.isoformat() for name, at in times.items()},
        "files": status.files,
        "files_left_out": status.files_left_out,
        "file": f"/users/me/exports/{status.id}/file" if status.is_ready(clock.now()) else None,
    }

"""A copy of one's own data: asked for here, built in the background, its link sent by email."""

from typing import Any

from flask import Blueprint, Response, jsonify

from app import clock
from app.accounts import export
from app.api.arguments import checked_id
from app.api.authentication import the_user
from app.api.errors import ApiError
from app.dao import export_status_dao
from app.dao.export_status_dao import Status
from app.db import db

blueprint = Blueprint("exports", __name__, url_prefix="/users/me")


@blueprint.post("/export")
def ask() -> Response:
    """Ask for an export (202). While one is under way there is no other (409)."""
    export_id = export.request(the_user().user_id, clock.now())
    response = jsonify(id=str(export_id), state="requested")
    response.status_code = 202
    return response


@blueprint.get("/exports")
def exports() -> Response:
    """The caller's exports, the newest first."""
    user = the_user()
    with db.transaction(read_only=True) as connection:
        found = export_status_dao.of_user(connection, user.user_id)
    return jsonify(exports=[_shown(status) for status in found])


@blueprint.get("/exports/<export_id>")
def status(export_id: str) -> Response:
    """How far one of the caller's exports is."""
    user = the_user()
    asked = checked_id(export_id)
    with db.transaction(read_only=True) as connection:
        found = export_status_dao.one(connection, asked, user.user_id)
    if found is None:
        raise ApiError(404, "unknown-export", "You have no such export.")
    return jsonify(_shown(found))


def _shown(status: Status) -> dict[str, Any]:
    times = {"requested_at": status.requested_at, "ready_at": status.ready_at, "expires_at": status.expires_at}
    return {"id": str(status.id), "state": status.state, **{name: at and at.isoformat() for name, at in times.items()}}

"""Deleting an account: one's own, or as an administrator anybody's."""

from uuid import UUID

from flask import Blueprint, Response, jsonify

from app import clock
from app.accounts.deletion import delete_account
from app.api.arguments import checked_id
from app.api.authentication import end_cookie, the_user
from app.api.errors import ApiError

blueprint = Blueprint("deletions", __name__, url_prefix="/users")


@blueprint.delete("/me")
def delete_me() -> Response:
    """Delete the caller's account: done (200), or under way (202). Asked twice, it is the same as once."""
    user = the_user(even_in_deletion=True)
    response = _delete(user.user_id, "user", user.user_id)
    end_cookie(response)
    return response


@blueprint.post("/<user_id>/deletion")
def delete_user(user_id: str) -> Response:
    """The same for any account, by an administrator."""
    administrator = the_user()
    whom = checked_id(user_id)
    if not administrator.is_administrator:
        raise ApiError(403, "not-yours", "Only an administrator may delete the account of somebody else.")
    return _delete(whom, "administrator", administrator.user_id)


def _delete(user_id: UUID, by: str, by_id: UUID) -> Response:
    deletion = delete_account(user_id, by=by, by_id=by_id, now=clock.now())
    response = jsonify(user_id=str(user_id), state=deletion.state, items=deletion.items)
    response.status_code = 200 if deletion.state == "complete" else 202
    return response

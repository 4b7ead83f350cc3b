"""Is the process alive? For whoever restarts it."""

from flask import Blueprint, Response, jsonify

blueprint = Blueprint("health", __name__, url_prefix="/health")


@blueprint.get("/live")
def live() -> Response:
    """200 while the process answers. Says nothing of the database, the broker or S3."""
    return jsonify(status="alive")

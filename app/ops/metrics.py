"""`GET /metrics` for Prometheus, never open by default: without METRICS_TOKEN there is no such page.

What was measured is kept for some seconds, so that no number of scrapes can be a burden to live traffic.
"""

import hmac
import threading
import time
from dataclasses import dataclass, field

from flask import Blueprint, Response, current_app, request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from werkzeug.exceptions import NotFound, Unauthorized

from app.config import Settings
from app.ops.collector import Collector

blueprint = Blueprint("metrics", __name__)


@dataclass
class Kept:
    """What was measured last, and until when it counts. One look at a time: who comes meanwhile waits for it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    page: bytes = b""
    until: float = 0.0


@blueprint.get("/metrics")
def metrics() -> Response:
    """All metrics, in Prometheus's text format. 404 without METRICS_TOKEN, 401 for another token."""
    settings: Settings = current_app.extensions["settings"]
    _authenticate(settings)
    kept: Kept = current_app.extensions.setdefault("ops.metrics", Kept())
    with kept.lock:
        if time.monotonic() >= kept.until:
            registry = CollectorRegistry()
            registry.register(Collector(settings))
            kept.page = generate_latest(registry)
            kept.until = time.monotonic() + settings.metrics_kept_seconds
        page = kept.page
    return Response(page, content_type=CONTENT_TYPE_PLAIN_0_0_4, headers={"Cache-Control": "no-store"})


def _authenticate(settings: Settings) -> None:
    if settings.metrics_token is None:
        raise NotFound
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    right = settings.metrics_token.get_secret_value().encode()
    if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), right):
        raise Unauthorized("Send METRICS_TOKEN as a bearer token.")

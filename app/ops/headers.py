"""Security headers, on every answer. Nothing is loaded from elsewhere, and no script or style stands in the page."""

from flask import Response, current_app, request

from app.config import Settings

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
ALWAYS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: where forms are sent over HTTPS, their Referer is held against the host.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HSTS = "max-age=31536000; includeSubDomains"


def add(response: Response) -> Response:
    """Add what the answer doesn't say for itself."""
    settings: Settings = current_app.extensions["settings"]
    for name, value in ALWAYS.items():
        response.headers.setdefault(name, value)
    if request.is_secure or settings.ops_cookie_secure:  # over plain http browsers don't heed it
        response.headers.setdefault("Strict-Transport-Security", HSTS)
    if request.blueprint == "ops":
        response.headers["Cache-Control"] = "no-cache" if request.endpoint == "ops.static" else "no-store"
    return response

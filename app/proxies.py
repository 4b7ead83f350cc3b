"""Who asks, where proxies are in front. A proxy's word counts only when it comes from an address of its own."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from flask import Request

from app.config import Settings

UNKNOWN = "unknown"


def is_from_proxy(request: Request, settings: Settings) -> bool:
    """Whether it is a trusted proxy that sends the request."""
    return _is_proxy(request.remote_addr, settings)


def client_address(request: Request, settings: Settings) -> str:
    """The address that the request comes from: the last one that is no trusted proxy's. UNKNOWN where there is none."""
    forwarded = ",".join(request.headers.getlist("X-Forwarded-For")).split(",")
    sender = request.remote_addr or ""
    for hop in (sender, *reversed([hop.strip() for hop in forwarded if hop.strip()])):
        if not _is_proxy(hop, settings):
            return hop if _address(hop) else sender or UNKNOWN
    return sender or UNKNOWN


def _is_proxy(address: str | None, settings: Settings) -> bool:
    found = _address(address)
    return found is not None and any(found in ip_network(network) for network in settings.trusted_proxies)


def _address(text: str | None) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text or "")
    except ValueError:
        return None

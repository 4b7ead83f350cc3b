"""Who asks, where proxies are in front. A proxy's word counts only when it comes from an address of its own."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from flask import Request

from app.config import Settings

Address = IPv4Address | IPv6Address

UNKNOWN = "unknown"
WITH_PORT = re.compile(r"(?P<v4>[0-9.]+):[0-9]{1,5}|\[(?P<v6>[^]]*)\](?::[0-9]{1,5})?")


def is_from_proxy(request: Request, settings: Settings) -> bool:
    """Whether it is a trusted proxy that sends the request."""
    return _is_proxy(_address(request.remote_addr), settings)


def client_address(request: Request, settings: Settings) -> str:
    """The address that the request comes from: the last one that is no trusted proxy's. UNKNOWN where there is none."""
    forwarded = ",".join(request.headers.getlist("X-Forwarded-For")).split(",")
    sender = _address(request.remote_addr)
    for hop in (sender, *(_address(hop.strip()) for hop in reversed(forwarded) if hop.strip())):
        if not _is_proxy(hop, settings):
            return str(hop or sender or UNKNOWN)
    return str(sender)


def _is_proxy(address: Address | None, settings: Settings) -> bool:
    return address is not None and any(address in ip_network(network) for network in settings.trusted_proxies)


def _address(text: str | None) -> Address | None:
    """What some proxies write with a port, `192.0.2.1:80` and `[2001:db8::1]:443`, is the address, too."""
    found = WITH_PORT.fullmatch(text or "")
    try:
        address = ip_address(found["v4"] or found["v6"] if found else text or "")
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address

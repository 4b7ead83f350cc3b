"""Where a request comes from: the last address that is no trusted proxy's. What others say is ignored.

Seen to fail: any sender a proxy, none one; the addresses read from the left; what is no address taken for one; an empty
one not passed over; an address with a port taken for the proxy's own.
"""

import pytest
from flask import Flask, request

from app import config
from app.proxies import client_address, is_from_proxy
from tests.unit.test_config import NEEDED

PROXIES = "10.1.0.0/16,2001:db8:1::/64,127.0.0.1"


@pytest.mark.parametrize(
    ("proxies", "sender", "forwarded", "expected"),
    [
        ("", "10.1.0.1", "198.51.100.1", "10.1.0.1"),
        (PROXIES, "10.1.0.1", "198.51.100.1", "198.51.100.1"),
        (PROXIES, "10.1.0.1", "made-up, 198.51.100.1", "198.51.100.1"),
        (PROXIES, "10.1.0.1", "made-up, 198.51.100.1, 10.1.0.8", "198.51.100.1"),
        (PROXIES, "10.1.0.1", "192.0.2.1, 198.51.100.1, 127.0.0.1, 10.1.0.8", "198.51.100.1"),
        (PROXIES, "2001:db8:1::5", "2001:db8:2::5", "2001:db8:2::5"),
        (PROXIES, "10.2.0.1", "198.51.100.1", "10.2.0.1"),
        (PROXIES, "198.51.100.9", "10.1.0.1", "198.51.100.9"),
        (PROXIES, "10.1.0.1", None, "10.1.0.1"),
        (PROXIES, "10.1.0.1", " , ", "10.1.0.1"),
        (PROXIES, "10.1.0.1", "198.51.100.1, ,", "198.51.100.1"),
        (PROXIES, "10.1.0.1", "made-up", "10.1.0.1"),
        (PROXIES, "10.1.0.1", "192.0.2.1, 198.51.100.1:80", "198.51.100.1"),
        (PROXIES, "10.1.0.1", "198.51.100.1:50123, 10.1.0.8:443", "198.51.100.1"),
        (PROXIES, "10.1.0.1", "[2001:db8:2::5]:443", "2001:db8:2::5"),
        (PROXIES, "10.1.0.1", "[2001:db8:2::5]", "2001:db8:2::5"),
        (PROXIES, "10.1.0.1", "198.51.100.1, [2001:db8:1::9]:443", "198.51.100.1"),
        (PROXIES, "10.1.0.1", "198.51.100.1:", "10.1.0.1"),
        (PROXIES, "10.1.0.1", "[198.51.100.1", "10.1.0.1"),
        (PROXIES, "::ffff:10.1.0.1", "198.51.100.1", "198.51.100.1"),
        (PROXIES, "10.1.0.1", "10.1.0.8", "10.1.0.1"),
        (PROXIES, None, "198.51.100.1", "unknown"),
        (PROXIES, "", "198.51.100.1", "unknown"),
    ],
)
def test_the_client_is_whoever_called_the_outermost_trusted_proxy(proxies, sender, forwarded, expected):
    settings = config.load({**NEEDED, "TRUSTED_PROXIES": proxies})
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    with Flask(__name__).test_request_context("/", headers=headers, environ_overrides={"REMOTE_ADDR": sender}):
        assert client_address(request, settings) == expected
        assert is_from_proxy(request, settings) is (
            bool(proxies) and sender in ("10.1.0.1", "::ffff:10.1.0.1", "2001:db8:1::5")
        )

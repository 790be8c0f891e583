"""The address that a call comes from. ``app/authentication.py`` makes a caller of it, or of an API key.

Where a connection comes from a trusted proxy, uvicorn's ``ProxyHeadersMiddleware`` has put the address that
``X-Forwarded-For`` names into the scope before.
"""

import ipaddress

from starlette.types import Scope

NO_ADDRESS = "none"
"""The caller behind a Unix socket, or behind a proxy that forwards what is no address."""


def address_of(scope: Scope) -> str:
    """The caller's IPv4 address, or the /64 network of its IPv6 address, which one subscriber has to himself."""
    client = scope.get("client")
    return normal_address(client[0] if client else "")


def normal_address(host: str) -> str:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return NO_ADDRESS
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))

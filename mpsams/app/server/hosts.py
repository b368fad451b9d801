"""The host names that the app answers to, and the check that a request comes from a page of its own.

A page of another site cannot read what the app answers, unless its name is made to lead here (DNS rebinding). Such a
request bears that name in its Host header. An address in numbers cannot be made to lead elsewhere.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

ANY = "*"
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/\\@\[\]]+)(?::(\d{0,5}))?", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}


class Hosts:
    """The host names that requests may be sent to, ``in`` which a Host header is or is not.

    bound: the addresses or names listened on. Always allowed are localhost and the loopback addresses; where one of
    ``bound`` is not of the loopback, the name of this computer too; where all addresses are listened on, any address in
    numbers.
    more: further names, "*" for all. ValueError for one that can be no host name.
    """

    def __init__(self, bound: Iterable[str] = (), more: Iterable[str] = ()) -> None:
        bound, more = list(bound), list(more)
        wrong = next((name for name in more if name != ANY and not split(name)[0]), None)
        if wrong is not None:
            raise ValueError(
                f"{wrong!r} is no host name; allowed are names and addresses such as annotate.example.org, and {ANY}"
                " for all"
            )
        self.all = ANY in more
        self.names = {"localhost", *(split(name)[0] for name in (*bound, *more) if name != ANY)}
        addresses = [_address(name) for name in bound]
        self.numbers = "" in bound or any(address is not None and address.is_unspecified for address in addresses)
        if self.numbers or any(address is not None and not address.is_loopback for address in addresses):
            self.names.add(split(socket.gethostname())[0])
        self.names.discard("")

    def __contains__(self, host: str) -> bool:
        name, _ = split(host)
        address = _address(name)
        return bool(name) and (
            self.all or name in self.names or (address is not None and (self.numbers or address.is_loopback))
        )


def split(host: str) -> tuple[str, int | None]:
    """Return a Host header's name in lower case without brackets and final dot, and its port; "" for no host."""
    host = host.strip()
    if _address(host) is not None:  # an IPv6 address without brackets
        return str(_address(host)), None
    found = _HOST.fullmatch(host)
    if found is None:
        return "", None
    name = found[1].strip("[]").lower().removesuffix(".")
    return str(_address(name) or name), int(found[2]) if found[2] else None


def same_origin(url: str, host: str) -> bool:
    """Return True if an Origin, or a page's address, is the Host a request went to; the port may be implied."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    usual = _PORTS.get(parts.scheme)
    (theirs, their_port), (ours, our_port) = split(parts.netloc), split(host)
    return usual is not None and bool(ours) and (theirs, their_port or usual) == (ours, our_port or usual)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None

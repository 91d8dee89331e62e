"""Which addresses may be sent to: the guard against requests into our own network."""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import httpx2

from service.notifications.errors import UnsafeAddressError

Resolve = Callable[[str, int], Sequence[str]]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNICAST_V6 = ipaddress.ip_network("2000::/3")
"""All that IANA has given out for global unicast; whatever lies outside is never sent to."""
_RESERVED_V6 = tuple(map(ipaddress.ip_network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_RESERVED_V4 = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
            *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
            "224.0.0.0/3",
        ),
    )
)
"""Source: the IANA special-purpose registries (RFC 6890 and updates), with all of multicast and class E.
The library's `is_global` follows an older copy of them and lets some of these through."""


@dataclass(frozen=True)
class Target:
    """A URL, and the one address its name stood for when it was checked. Connect there and nowhere else."""

    scheme: str
    host: str
    port: int
    path: str
    address: str

    @property
    def url(self) -> str:
        """The URL with the checked address in place of the name."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def host_header(self) -> str:
        """The Host header: the name, as if it had been looked up again."""
        return self.host if self.port == 443 else f"{self.host}:{self.port}"


def check_target(url: str, *, resolve: Resolve | None = None, allow_private: bool = False) -> Target:
    """Look a URL's name up once and refuse what must not be reached.

    Checking first and letting the HTTP client look the name up again is no check: an attacker's name server
    answers differently the second time. So the address is part of the result.

    Args:
        allow_private: For installations whose receivers are inside; also allows http and any port.

    Raises:
        UnsafeAddressError: not a URL, not https on port 443, a user name in it, an unknown name, or an address that is
            not global.
    """
    parts, port = _parsed(url)
    is_plain = parts.scheme == "http" and allow_private
    if parts.scheme != "https" and not is_plain:
        raise UnsafeAddressError("only https URLs are sent to")
    port = (80 if is_plain else 443) if port is None else port
    if port != 443 and not allow_private:
        raise UnsafeAddressError(f"only port 443 is sent to, not {port}")
    host = parts.hostname or ""
    addresses = (resolve or _resolve)(host, port)
    # Every address must pass: one private address among public ones is how a check is tricked.
    for address in addresses:
        if not allow_private and not is_global(address):
            raise UnsafeAddressError(f"{host} leads to {address}, which is not on the public internet")
    if not addresses:
        raise UnsafeAddressError(f"{host} has no address")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port, path, addresses[0])


def _parsed(url: str) -> tuple[SplitResult, int | None]:
    # urlsplit drops line breaks and tabs without a word: what is checked would not be what is kept.
    if any(character.isspace() or not character.isprintable() for character in url):
        raise UnsafeAddressError("the URL holds a space or a control character; write it as %20, or leave it out")
    try:
        parts = urlsplit(url)
        port = parts.port
        httpx2.URL(url)  # what sends refuses more than urlsplit does
    except (ValueError, httpx2.InvalidURL) as error:
        raise UnsafeAddressError(f"{url!r} is not a URL") from error
    if parts.username is not None or parts.password is not None or not parts.hostname:
        raise UnsafeAddressError("the URL needs a host name and may hold no user name or password")
    if not parts.hostname.isascii():
        raise UnsafeAddressError(f"write the host name {parts.hostname!r} in ASCII, as xn--...")
    if port == 0:
        raise UnsafeAddressError("port 0 cannot be sent to")
    return parts, port


def is_global(address: str) -> bool:
    """Whether an address is on the public internet, whatever form it is written in."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv4Address):
        return not any(parsed in network for network in _RESERVED_V4)
    inner = parsed.ipv4_mapped or _nat64(parsed)
    if inner is not None:
        return is_global(str(inner))
    return parsed in _UNICAST_V6 and not any(parsed in network for network in _RESERVED_V6)


def _nat64(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None


def _resolve(host: str, port: int) -> Sequence[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnsafeAddressError(f"the name {host!r} cannot be looked up") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))

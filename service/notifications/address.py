"""Which addresses may be sent to: the guard against requests into our own network."""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2

from service.notifications.errors import UnsafeAddressError

Resolve = Callable[[str, int], Sequence[str]]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


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
    is_plain = parts.scheme == "http" and allow_private
    if parts.scheme != "https" and not is_plain:
        raise UnsafeAddressError("only https URLs are sent to")
    port = port or (80 if is_plain else 443)
    if port != 443 and not allow_private:
        raise UnsafeAddressError(f"only port 443 is sent to, not {port}")
    addresses = (resolve or _resolve)(parts.hostname, port)
    # Every address must pass: one private address among public ones is how a check is tricked.
    for address in addresses:
        if not allow_private and not is_global(address):
            raise UnsafeAddressError(f"{parts.hostname} leads to {address}, which is not on the public internet")
    if not addresses:
        raise UnsafeAddressError(f"{parts.hostname} has no address")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname, port, path, addresses[0])


def is_global(address: str) -> bool:
    """Whether an address is on the public internet, whatever form it is written in."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or _teredo(parsed) or _nat64(parsed)
        if inner is not None:
            return is_global(str(inner))
    return parsed.is_global and not parsed.is_multicast


def _teredo(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return None if address.teredo is None else address.teredo[1]


def _nat64(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None


def _resolve(host: str, port: int) -> Sequence[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnsafeAddressError(f"the name {host!r} cannot be looked up") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))

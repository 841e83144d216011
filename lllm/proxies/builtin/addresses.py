"""Rules for the addresses that a fetch may connect to, and for its URLs.

Two lists that do not know of each other: hosts by their name in a URL, and addresses that are not public. A name that is
allowed and leads to an address that is not, is refused: who runs a name server decides where its names lead.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from lllm.errors import ConfigError, EndpointDenied, EndpointRejected
from lllm.http.url import foreign_url

if TYPE_CHECKING:
    from yarl import URL

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS: Final = {"http": 80, "https": 443}
LONGEST: Final = 4000
"""Characters of a URL."""

NOT_PUBLIC: Final = {
    # https://www.iana.org/assignments/iana-ipv4-special-registry
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared by customers of a provider",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "168.63.129.16/32": "the host of a machine at Azure",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "reserved for protocols",
    "192.0.2.0/24": "reserved for documentation",
    "192.88.99.0/24": "a relay of 6to4",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "reserved for benchmarks",
    "198.51.100.0/24": "reserved for documentation",
    "203.0.113.0/24": "reserved for documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
    # https://www.iana.org/assignments/iana-ipv6-special-registry: what lies within 2000::/3
    "2001::/23": "reserved for protocols",
    "2001:db8::/32": "reserved for documentation",
    "2002::/16": "6to4",
    "3fff::/20": "reserved for documentation",
    # and what is named here for the message alone: nothing outside of 2000::/3 is public
    "::/128": "this host",
    "::1/128": "loopback",
    "::ffff:0:0/96": "an IPv4 address in another form",
    "64:ff9b::/96": "NAT64",
    "64:ff9b:1::/48": "NAT64",
    "fc00::/7": "private",
    "fe80::/10": "link-local",
    "ff00::/8": "multicast",
}
_NOT_PUBLIC: Final = tuple((ipaddress.ip_network(net), why) for net, why in NOT_PUBLIC.items())
_PUBLIC_6: Final = ipaddress.IPv6Network("2000::/3")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_FORMS: Final = "An IPv4 address has four decimal numbers, an IPv6 address stands in brackets."
_AUTHORITY: Final = re.compile(r"[^/?#]*")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def not_public(address: Address) -> str:
    """Why an address is not one of the public internet; "" where it is."""
    for network, why in _NOT_PUBLIC:
        if address.version == network.version and address in network:
            return why
    if address.version == 6 and (address not in _PUBLIC_6 or address.scope_id):
        return "reserved"
    return ""


class Target(NamedTuple):
    """A URL that may be asked for."""

    url: URL
    host: str
    port: int


class HostRule(NamedTuple):
    """An entry of `allow`: a host, `*.` and a domain for all hosts below it, or `*`; and a port, or None for that of the
    scheme."""

    host: str
    port: int | None

    def fits(self, host: str, port: int, scheme: str) -> bool:
        """True if the host and port of a URL are allowed."""
        if port != (PORTS[scheme] if self.port is None else self.port):
            return False
        return self.host in ("*", host) or (self.host.startswith("*.") and host.endswith(self.host[1:]))


class AddressRule(NamedTuple):
    """An entry of `allow_private`: a network, or one address, and a port, or None for 80 and 443."""

    network: Network
    port: int | None

    def fits(self, address: Address, port: int) -> bool:
        """True if this address and port may be connected to."""
        return (
            address.version == self.network.version
            and address in self.network
            and port in (PORTS.values() if self.port is None else (self.port,))
        )


def host_rule(text: str, where: str) -> HostRule:
    """Reads an entry of `allow`. ConfigError where it is none."""
    host, port = _split(text, where, "allow")
    name = host.removeprefix("*.").rstrip(".")
    if (literal := _literal(name)) is not None and name == host:
        return HostRule(str(literal), port)
    if host != "*":
        try:
            name = name.encode("idna").decode("ascii") if not name.isascii() else name
        except UnicodeError:
            name = ""
        if not is_name(name):
            raise ConfigError(
                f"{where}: {text!r} in 'allow' is not a host",
                hint="Write docs.python.org, *.example.com for all hosts below it, example.com:8080, or * for any.",
            )
    return HostRule(f"*.{name}" if host.startswith("*.") else name or host, port)


def address_rule(text: str, where: str) -> AddressRule:
    """Reads an entry of `allow_private`. ConfigError where it is none."""
    host, port = _split(text, where, "allow_private")
    try:
        return AddressRule(ipaddress.ip_network(host), port)
    except ValueError as error:
        raise ConfigError(
            f"{where}: {text!r} in 'allow_private' is not an address or network: {error}",
            hint="Write 127.0.0.1:8080, 10.1.0.0/16 or [::1]:8080. Names of hosts belong into 'allow'.",
        ) from None


def target_of(text: str, hosts: Iterable[HostRule], addresses: Iterable[AddressRule]) -> Target:
    """A URL, checked. Names are not looked up yet.

    Raises:
        EndpointRejected: not a URL of http or https, or one that programs read in different ways.
        EndpointDenied: its host or port is not allowed.
    """
    text = text.strip(" ")
    shown = repr(text if len(text) <= 200 else f"{text[:200]}...")
    if not text or len(text) > LONGEST:
        raise EndpointRejected(f"a URL must have 1 to {LONGEST} characters, got {len(text)}")
    if not text.isprintable() or "\\" in text or " " in text:
        raise EndpointRejected(f"{shown} is not a URL: it has white space, backslashes or control characters")
    scheme = text.partition(":")[0].lower() if ":" in text else ""
    if scheme not in PORTS or not text[len(scheme) :].startswith("://"):
        raise EndpointRejected(
            f"{shown} is not a URL that can be fetched", hint="Begin it with https:// or http://."
        )
    try:
        url = foreign_url(text)
        host, port = (url.raw_host or "").rstrip("."), url.port
    except (ValueError, UnicodeError):
        host, port = "", None
    if not host or not port:
        raise EndpointRejected(f"{shown} is not a URL: it has no host that can be read")
    if "@" in _AUTHORITY.match(text[len(scheme) + 3 :])[0]:  # type: ignore[index]
        raise EndpointDenied(f"the URL of {host} contains a user or a password, which is not allowed")
    literal = _literal(host)
    if (literal is None and not is_name(host)) or "%" in host:
        raise EndpointRejected(
            f"{host[:200]!r} is not a host",
            hint=_FORMS if _ends_in_number(host) else None,
        )
    own = literal is not None and any(rule.fits(literal, port) for rule in addresses)
    rules = list(hosts)
    if not own and not any(rule.fits(host, port, scheme) for rule in rules):
        named = ", ".join(f"{rule.host}:{rule.port}" if rule.port else rule.host for rule in rules[:20])
        at = f"{host}:{port}" if port != PORTS[scheme] else host
        raise EndpointDenied(f"{at} is not allowed", hint=f"Allowed: {named or 'no host'}.")
    return Target(url.with_fragment(None).with_host(host), host, port)


def check_addresses(target: Target, found: Iterable[Address], addresses: Iterable[AddressRule]) -> None:
    """Refuses a host one of whose addresses may not be connected to. All of them must be good: a name server that mixes
    others in means no good.

    Raises:
        EndpointDenied: names the first one that is not allowed.
    """
    rules = list(addresses)
    for address in found:
        if (why := not_public(address)) and not any(rule.fits(address, target.port) for rule in rules):
            at = "" if str(address) == target.host else f" leads to {address}, which"
            raise EndpointDenied(f"{target.host}{at} is not public ({why})")


def is_name(host: str) -> bool:
    """True if a host is a name, in ASCII. One that ends in a number is none: resolvers read it as an address."""
    if not host or len(host) > 253 or _ends_in_number(host):
        return False
    return all(_LABEL.fullmatch(label) for label in host.split("."))


def _ends_in_number(host: str) -> bool:
    return _NUMBER.fullmatch(host.rpartition(".")[2]) is not None


def _literal(host: str) -> Address | None:
    """The address that a host is, in its one usual form."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _split(text: str, where: str, option: str) -> tuple[str, int | None]:
    """Host and port of an entry. IPv6 stands in brackets where a port follows."""
    host, port = text.strip().lower(), ""
    if host.startswith("["):
        host, _, port = host[1:].partition("]")
        port = port.removeprefix(":")
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise ConfigError(f"{where}: {text!r} in '{option}' has a port that is not one: {port[:20]!r}")
    return host, int(port) if port else None

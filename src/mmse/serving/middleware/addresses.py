"""Whose request it is: the address of the connection, or the one that a proxy of ours names."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import final

from mmse.core.errors import UsageError

_MAX_FORWARDS = 32
"""How many addresses of a header are read, from its end."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """The networks of addresses such as `10.0.0.7` and `10.0.0.0/8`; raises `UsageError`."""
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError as error:
        raise UsageError(f"A proxy is no address or network: {error}.", "Such as 10.0.0.7 or 10.0.0.0/8.") from error


@final
class ClientAddresses:
    """Tells whose a request is; `X-Forwarded-For` is read where a connection comes from one of `proxies` alone."""

    def __init__(self, proxies: Sequence[str] = ()) -> None:
        self._networks = parse_networks(proxies)

    def find(self, peer: str, headers: Mapping[bytes, bytes]) -> str:
        """The address of the client behind `peer`: the last that is no proxy of ours; a client may send any."""
        if not self._networks or not self._is_proxy(peer):
            return peer
        forwarded = headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")[-_MAX_FORWARDS:]
        for address in map(str.strip, reversed(forwarded)):
            if not _is_address(address):
                break
            peer = address
            if not self._is_proxy(address):
                break
        return peer

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self._networks)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True

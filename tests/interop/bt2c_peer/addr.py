"""Addresses as `peers` carries them."""

import ipaddress

from .wire import WireError


def split_addr(addr: str) -> tuple[str, int]:
    """Splits `ip:port` or `[v6]:port`; a name or a port out of range is refused."""
    host, _, port = addr.rpartition(":")
    try:
        ip = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        if (ip.version == 6) != host.startswith("[") or not 0 < int(port) < 65536:
            raise ValueError("wrong form")
    except ValueError as error:
        raise WireError(f"no address of a peer: {addr!r:.80}") from error
    return str(ip), int(port)

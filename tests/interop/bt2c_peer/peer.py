"""A base peer: dials and accepts; all its connections share one identity and one chain."""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field

from . import wire
from .addr import split_addr
from .chain import Block
from .connection import GONE, Closed, Connection
from .identity import Identity, IdentityError
from .journal import Journal
from .wire import WireError

CONNECT_TIMEOUT = 10.0
SERVER_NAME = "bt2c"


@dataclass
class LocalPeer:
    """What all connections of one peer share: who it is, what it holds, and what it noticed."""

    identity: Identity = field(default_factory=Identity)
    #: Its chain, from the genesis on.
    blocks: Sequence[Block] = ()
    known_peers: list[str] = field(default_factory=list)
    journal: Journal = field(default_factory=Journal)
    #: Monotonic times at which a remote side asked for blocks or peers.
    asked: list[float] = field(default_factory=list)

    async def dial(self, addr: str, source: str | None = None) -> Connection:
        """Connects from the address `source`, applies the certificate rules, and says hello."""
        host, port = split_addr(addr)
        async with asyncio.timeout(CONNECT_TIMEOUT):
            try:
                reader, writer = await asyncio.open_connection(
                    host, port, ssl=self.identity.client_context(), server_hostname=SERVER_NAME,
                    local_addr=(source, 0) if source else None, limit=wire.FRAME_LIMIT,
                )  # fmt: skip
            except GONE as error:
                raise Closed(f"no connection: {error!r}") from error
            try:
                connection = Connection(self, reader, writer)
                await connection.send_hello()
                await connection.receive_hello()
            except BaseException:
                writer.transport.abort()
                raise
        connection.start()
        return connection

    async def listen(self, host: str, accepted: asyncio.Queue[Connection]) -> asyncio.Server:
        """Accepts on a free port; each connection that got through its hello goes into `accepted`."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # start_tls must come before anything is awaited: what is read before it would be lost to TLS.
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await writer.start_tls(self.identity.server_context())
                    connection = Connection(self, reader, writer)
                    await connection.receive_hello()
                    await connection.send_hello()
            except (WireError, IdentityError, ssl.SSLCertVerificationError) as error:
                self.journal.fault(f"inbound: {error!r}")
                writer.transport.abort()
            except (*GONE, TimeoutError, Closed):
                writer.transport.abort()
            else:
                connection.start()
                accepted.put_nowait(connection)

        return await asyncio.start_server(accept, host, 0, limit=wire.FRAME_LIMIT)

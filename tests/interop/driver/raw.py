"""A connection that obeys nothing: for what an honest peer would never send."""

import asyncio
import ssl
from collections import Counter

from bt2c_peer import Identity, Journal, WireError, wire
from bt2c_peer.addr import split_addr
from bt2c_peer.connection import GONE

from .report import Failed

CONNECT_TIMEOUT = 10.0
SERVER_NAME = "bt2c"


class Raw:
    """Bytes in, bytes out; every message that comes back still goes into the journal."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, journal: Journal) -> None:
        self._reader, self._writer, self._journal = reader, writer, journal

    @classmethod
    async def open(cls, addr: str, source: str, journal: Journal, context: ssl.SSLContext | None = None) -> "Raw":
        """Connects from `source`; without a context there is no TLS."""
        host, port = split_addr(addr)
        async with asyncio.timeout(CONNECT_TIMEOUT):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname=SERVER_NAME if context else None, local_addr=(source, 0)
            )
        return cls(reader, writer, journal)

    async def hello(self, identity: Identity) -> None:
        """Sends a hello as an honest peer would; its claims are for the node to judge."""
        await self.send(hello_frame(identity))

    async def send(self, raw: bytes) -> None:
        """Sends bytes; a connection that is already gone shows in `until_closed`."""
        try:
            self._writer.write(raw)
            await self._writer.drain()
        except GONE:
            pass

    async def read_message(self) -> wire.Envelope | None:
        """The next message, or `None` when the connection ended."""
        try:
            body = await wire.read_body(self._reader, wire.FRAME_LIMIT)
        except GONE:
            return None
        if body is None:
            return None
        message = wire.decode(body)
        self._journal.record(message.type)
        return message

    async def until_closed(self, within: float) -> list[str]:
        """The types of all messages until the node ends the connection, which it must in time."""
        kinds: list[str] = []
        try:
            async with asyncio.timeout(within):
                while message := await self.read_message():
                    kinds.append(message.type)
        except TimeoutError as error:
            raise Failed(f"still open after {within:g} s, having received {dict(Counter(kinds))}") from error
        except WireError as error:
            raise Failed(f"received what is no message: {error}") from error
        finally:
            self._writer.transport.abort()
        return kinds

    async def read_to_end(self, within: float) -> bytes:
        """All bytes until the node ends the connection, which it must in time; for connections without TLS."""
        try:
            async with asyncio.timeout(within):
                return await self._reader.read()
        except TimeoutError as error:
            raise Failed(f"still open after {within:g} s") from error
        except GONE:
            return b""
        finally:
            self._writer.transport.abort()


def hello_frame(identity: Identity) -> bytes:
    """The hello of a peer without blocks."""
    data = {"version": "1.0.0", "node_id": identity.node_id, "block_height": 0, "last_block_hash": "0" * 64}
    return wire.encode("hello", data, identity.node_id)

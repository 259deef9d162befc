"""One connection of a base peer: answers what the seed defines, asks, pushes, and holds the other side to the page."""

import asyncio
import re
import ssl
import time
from typing import TYPE_CHECKING

from . import wire
from .addr import split_addr
from .chain import Block, ChainError, Transaction
from .identity import IdentityError, check_certificate
from .pace import Pace
from .wire import Envelope, Json, WireError

if TYPE_CHECKING:
    from .peer import LocalPeer

VERSION = "1.0.0"
ANSWER_TIMEOUT = 20.0
NO_HASH = "0" * 64
#: How a stream fails when the other side is gone.
GONE = (OSError, asyncio.IncompleteReadError)

_LABEL = re.compile(r"[A-Za-z0-9._-]{1,54}")
_KEY_LABEL = re.compile(r"[0-9A-Fa-f]{40}")
_ANSWER_OF = {"ping": "pong", "get_peers": "peers", "get_blocks": "blocks"}


class Closed(Exception):
    """The connection ended, by either side; the text says why as far as is known."""


class Connection:
    """One connection in either direction. `pushed` receives the blocks and transactions the other side pushes."""

    def __init__(self, local: "LocalPeer", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.local = local
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        if tls.version() != "TLSv1.3":
            raise IdentityError(f"{tls.version()}")
        self.remote = check_certificate(tls.getpeercert(binary_form=True) or b"")
        self.hello: Envelope | None = None
        self.pings = 0
        self.pushed: asyncio.Queue[Block | Transaction] = asyncio.Queue()
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reader, self._writer = reader, writer
        self._locks = {answer: asyncio.Lock() for answer in _ANSWER_OF.values()}
        self._waiting: dict[str, asyncio.Future[Envelope]] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def node_id(self) -> str:
        """The label in the other side's hello."""
        assert self.hello is not None, "set before anyone holds the connection"
        return wire.text(self.hello.data, "node_id")

    async def send(self, kind: str, data: dict[str, Json]) -> None:
        """Sends one message."""
        await self.send_raw(wire.encode(kind, data, self.local.identity.node_id))

    async def send_raw(self, raw: bytes) -> None:
        """Sends bytes as they are."""
        try:
            self._writer.write(raw)
            await self._writer.drain()
        except GONE as error:
            raise Closed(repr(error)) from error

    async def send_hello(self) -> None:
        """Says hello with the four fields of the seed and nothing more."""
        blocks = self.local.blocks
        tip = (blocks[-1].height, blocks[-1].hash.hex()) if blocks else (0, NO_HASH)
        data = {"version": VERSION, "node_id": self.local.identity.node_id}
        await self.send("hello", data | {"block_height": tip[0], "last_block_hash": tip[1]})

    async def receive_hello(self) -> None:
        """Takes the first message, which must be a hello that agrees with the certificate."""
        message = await self._read(wire.HANDSHAKE_LIMIT)
        if message.type != "hello":
            raise WireError(f"{message.type} before hello")
        for key in ("version", "node_id", "last_block_hash"):
            wire.text(message.data, key)
        message.integer("block_height")
        node_id = message.data["node_id"]
        if message.sender != node_id or self.remote.label not in (None, node_id):
            raise WireError(f"hello of {node_id} with sender {message.sender} on a certificate of {self.remote.label}")
        if not _LABEL.fullmatch(node_id) or (_KEY_LABEL.fullmatch(node_id) and node_id != self.remote.peer_id[:40]):
            raise WireError(f"node_id {node_id:.60} on the key {self.remote.peer_id}")
        self.hello = message

    def start(self) -> None:
        """Begins to read; called once both hellos are through."""
        self._task = asyncio.create_task(self._run())

    async def request(self, kind: str, data: dict[str, Json], timeout: float = ANSWER_TIMEOUT) -> Envelope:
        """Asks and waits for the answer; requests of one kind go one at a time, since answers bear no id."""
        answer = _ANSWER_OF[kind]
        async with self._locks[answer]:
            if self.closed.done():
                raise Closed(self.closed.result())
            waiting = self.expect_answer(answer)
            try:
                async with asyncio.timeout(timeout):
                    await self.send(kind, data)
                    return await waiting
            except TimeoutError as error:
                self._end(f"no answer to {kind} in {timeout} s")  # a late one would be taken for the next one's
                raise Closed(self.closed.result()) from error

    def expect_answer(self, answer: str) -> asyncio.Future[Envelope]:
        """The next message of that type; for requests that a test spells itself."""
        return self._waiting.setdefault(answer, asyncio.get_running_loop().create_future())

    async def ping(self, timestamp: int | None = None) -> int:
        """Pings, and returns the timestamp that came back."""
        at = int(time.time()) if timestamp is None else timestamp
        return (await self.request("ping", {"timestamp": at})).integer("timestamp")

    async def get_peers(self, count: int = 10) -> list[str]:
        """Asks for addresses; each must be an IP literal with a port."""
        peers = wire.items((await self.request("get_peers", {"count": count})).data, "peers")
        for addr in peers:
            split_addr(addr)
        if len(peers) > count:
            raise WireError(f"{len(peers)} peers for a count of {count}")
        return peers

    async def get_blocks(self, start: int, end: int) -> list[Block]:
        """Asks for blocks; they must be contiguous, ascending, from `start`, and within what was asked."""
        answer = await self.request("get_blocks", {"start_height": start, "end_height": end})
        blocks = [Block.from_json(item) for item in wire.items(answer.data, "blocks")]
        heights = [block.height for block in blocks]
        if heights != list(range(start, start + len(blocks))) or len(blocks) > end - start + 1:
            raise WireError(f"asked for blocks {start} to {end}, got {heights[:3]}…")
        return blocks

    async def get_chain(self, chunk: int = 100, pace: Pace | None = None) -> list[Block]:
        """Walks the whole chain from its genesis until the other side has no more."""
        pace, chain = pace or Pace(), []
        while True:
            await pace.wait()
            blocks = await self.get_blocks(len(chain), len(chain) + chunk - 1)
            if not blocks:
                return chain
            chain += blocks

    async def push_block(self, block: Block) -> None:
        """Broadcasts a block to this one peer."""
        await self.send("new_block", {"block": block.to_json()})

    async def push_transaction(self, tx: Transaction) -> None:
        """Broadcasts a transaction to this one peer."""
        await self.send("new_transaction", {"transaction": tx.to_json()})

    def abort(self) -> None:
        """Ends the connection at once."""
        self._end("aborted here")

    async def _read(self, limit: int) -> Envelope:
        try:
            body = await wire.read_body(self._reader, limit)
        except GONE as error:
            raise Closed(repr(error)) from error
        if body is None:
            raise Closed("end of stream")
        message = wire.decode(body)
        self.local.journal.record(message.type)
        if message.type not in wire.SEED_TYPES:
            raise WireError(f"{message.type} is no message of the seed")
        if type(message.timestamp) is not int or message.sender is None:
            raise WireError(f"{message.type} without an integer timestamp or a sender")
        if abs(message.timestamp - time.time()) > 3600:
            raise WireError(f"{message.type} of {message.timestamp}")
        return message

    async def _run(self) -> None:
        try:
            while True:
                message = await self._read(wire.FRAME_LIMIT)
                if message.sender != self.node_id:
                    raise WireError(f"{message.type} from {message.sender} on the connection of {self.node_id}")
                await self._handle(message)
        except Closed as closed:
            self._end(str(closed))
        except (WireError, ChainError) as error:
            self.local.journal.fault(f"{self.node_id}: {error}")
            self._end(str(error))

    async def _handle(self, message: Envelope) -> None:
        if message.type in self._locks:
            waiting = self._waiting.pop(message.type, None)
            if waiting is None:
                raise WireError(f"{message.type}, which nobody asked for")
            if not waiting.done():
                waiting.set_result(message)
        elif message.type == "ping":
            self.pings += 1
            await self.send("pong", {"timestamp": message.integer("timestamp")})
        elif message.type == "get_peers":
            self.local.asked.append(time.monotonic())
            count = message.integer("count") if "count" in message.data else 10
            await self.send("peers", {"peers": self.local.known_peers[:count]})
        elif message.type == "get_blocks":
            self.local.asked.append(time.monotonic())
            await self._serve_blocks(message.integer("start_height"), message.integer("end_height"))
        elif message.type == "new_block":
            self.pushed.put_nowait(Block.from_json(message.data.get("block")))
        elif message.type == "new_transaction":
            self.pushed.put_nowait(Transaction.from_json(message.data.get("transaction")))
        else:
            raise WireError("a second hello")

    async def _serve_blocks(self, start: int, end: int) -> None:
        if start > end:
            raise WireError(f"get_blocks from {start} to {end}")
        chosen: list[Json] = []
        room = wire.FRAME_LIMIT - 1024  # for the envelope
        for block in self.local.blocks[start : end + 1]:
            room -= len(block.canonical) + 1
            if room < 0:
                break
            chosen.append(block.to_json())
        await self.send("blocks", {"blocks": chosen})

    def _end(self, why: str) -> None:
        if not self.closed.done():
            self.closed.set_result(why)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Closed(why))
        self._writer.transport.abort()
        if self._task and self._task is not asyncio.current_task():
            self._task.cancel()

"""Frames and envelopes: a big-endian length, then UTF-8 JSON, under limits set in advance."""

import json
import time
from asyncio import StreamReader
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

HANDSHAKE_LIMIT = 16 * 1024
FRAME_LIMIT = 1024 * 1024
MAX_DEPTH = 16
MAX_STRING = 64 * 1024
MAX_INTEGER = 2**53 - 1

#: Every message type that the seed document defines. A peer that offered nothing else must receive nothing else.
SEED_TYPES = frozenset(
    ["hello", "ping", "pong", "get_peers", "peers", "get_blocks", "blocks", "new_block", "new_transaction"]
)

Json = Any


class WireError(Exception):
    """What arrived breaks the frame, JSON or envelope rules."""


@dataclass(frozen=True)
class Envelope:
    """One message as it arrived; `timestamp` and `sender` may be missing outside hello."""

    type: str
    data: dict[str, Json]
    timestamp: int | float | None
    sender: str | None

    def integer(self, key: str) -> int:
        """The field `key` of `data`, which must be an integer in range."""
        return integer(self.data, key)


def integer(obj: dict[str, Json], key: str) -> int:
    """`obj[key]` as an integer from 0 to 2^53-1; `True` and `1.0` are not integers."""
    value = obj.get(key)
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise WireError(f"{key} is not an integer from 0 to 2^53-1: {value!r:.60}")
    return value


def text(obj: dict[str, Json], key: str) -> str:
    """`obj[key]` as a string that UTF-8 can carry."""
    value = obj.get(key)
    if not isinstance(value, str):
        raise WireError(f"{key} is not a string: {value!r:.60}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise WireError(f"{key} holds a lone surrogate") from error
    return value


def items(obj: dict[str, Json], key: str) -> list[Json]:
    """`obj[key]` as a list."""
    value = obj.get(key)
    if not isinstance(value, list):
        raise WireError(f"{key} is not a list: {value!r:.60}")
    return value


def dumps(value: Json) -> bytes:
    """JSON without white space and with no escape that JSON does not demand."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def frame(body: bytes) -> bytes:
    """`body` behind its length."""
    return len(body).to_bytes(4, "big") + body


def encode(kind: str, data: dict[str, Json], sender: str) -> bytes:
    """A whole frame with all four envelope fields."""
    return frame(dumps({"type": kind, "data": data, "timestamp": int(time.time()), "sender": sender}))


def decode(body: bytes) -> Envelope:
    """Reads one frame body, or says why it is not a message."""
    obj = loads(body)
    if not isinstance(obj, dict):
        raise WireError("the envelope is not an object")
    kind, data = text(obj, "type"), obj.get("data")
    if not isinstance(data, dict):
        raise WireError(f"{kind}: data is not an object")
    timestamp = obj.get("timestamp")
    if timestamp is not None and type(timestamp) not in (int, float):
        raise WireError(f"{kind}: timestamp is not a number: {timestamp!r:.60}")
    sender = text(obj, "sender") if "sender" in obj else None
    if kind == "hello" and (timestamp is None or sender is None):
        raise WireError("hello without timestamp or sender")
    return Envelope(kind, data, timestamp, sender)


def loads(body: bytes) -> Json:
    """Parses JSON under the page's limits. Stricter than a node need be: any key given twice is refused."""
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_unique, parse_int=_plain_integer, parse_constant=_no_constant
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise WireError(f"not UTF-8 JSON: {type(error).__name__}") from error
    for depth, level in enumerate(_levels(value), start=1):
        if depth > MAX_DEPTH:
            raise WireError(f"nested deeper than {MAX_DEPTH}")
        if any(isinstance(leaf, str) and len(leaf.encode(errors="replace")) > MAX_STRING for leaf in level):
            raise WireError(f"a string longer than {MAX_STRING} bytes")
    return value


def _levels(root: Json) -> Iterator[list[Json]]:
    """The values of the tree, one level at a time; a level without containers is the last."""
    level = [root]
    while containers := [value for value in level if isinstance(value, (dict, list))]:
        level = [child for c in containers for child in (c.values() if isinstance(c, dict) else c)]
        yield level


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    obj = dict(pairs)
    if len(obj) != len(pairs):
        raise WireError("a key given twice")
    return obj


def _plain_integer(digits: str) -> int | float:
    # A sign makes it no plain integer; as a float it fails wherever an integer is wanted and passes elsewhere.
    return float(digits) if digits.startswith("-") or len(digits) > 16 else int(digits)


def _no_constant(name: str) -> Json:
    raise WireError(f"{name} is not JSON")


async def read_body(reader: StreamReader, limit: int) -> bytes | None:
    """The next frame's body; `None` when the stream ends between two frames."""
    head = await reader.read(4)
    if not head:
        return None
    if len(head) < 4:
        head += await reader.readexactly(4 - len(head))
    length = int.from_bytes(head, "big")
    if not 1 <= length <= limit:
        raise WireError(f"frame length {length}, limit {limit}")
    return await reader.readexactly(length)

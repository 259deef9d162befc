"""Chain objects: hashes, merkle root, signatures and the canonical form, from the protocol page alone."""

import base64
import binascii
import hashlib
import time
from dataclasses import dataclass
from functools import cached_property

from . import identity
from .identity import Identity, IdentityError, address_of, load_key
from .wire import Json, WireError, dumps, integer, items, text

MAX_BLOCK_BYTES = 1_000_000


class ChainError(Exception):
    """A chain object breaks a rule of the page; the text names object and rule."""


def sha3(*parts: bytes) -> bytes:
    """SHA3-256 over the parts, one after the other."""
    return hashlib.sha3_256(b"".join(parts)).digest()


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def lp(value: bytes | str) -> bytes:
    """A 16-bit length, then the bytes (text as UTF-8)."""
    raw = value.encode() if isinstance(value, str) else value
    if len(raw) > 0xFFFF:
        raise ChainError(f"{len(raw)} bytes do not fit a 16-bit length")
    return u16(len(raw)) + raw


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _from_b64(obj: dict[str, Json], key: str) -> bytes:
    value = text(obj, key)
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError(f"{key} is not base64") from error
    if b64(raw) != value:
        raise WireError(f"{key} is not in the one base64 form")
    return raw


def _hash_field(obj: dict[str, Json], key: str) -> bytes:
    value = text(obj, key)
    if len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise WireError(f"{key} is not 64 lower-case hex digits: {value!r:.80}")
    return bytes.fromhex(value)


def _object(value: Json, what: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise WireError(f"{what} is not an object")
    return value


@dataclass(frozen=True)
class Transaction:
    sender: str
    recipient: str
    amount: int
    fee: int
    nonce: int
    timestamp: int
    payload: str | None
    public_key: bytes
    signature: bytes
    hash: bytes

    @classmethod
    def from_json(cls, value: Json) -> "Transaction":
        obj = _object(value, "transaction")
        return cls(
            sender=text(obj, "sender"),
            recipient=text(obj, "recipient"),
            amount=integer(obj, "amount"),
            fee=integer(obj, "fee"),
            nonce=integer(obj, "nonce"),
            timestamp=integer(obj, "timestamp"),
            payload=text(obj, "payload") if "payload" in obj else None,
            public_key=_from_b64(obj, "public_key"),
            signature=_from_b64(obj, "signature"),
            hash=_hash_field(obj, "hash"),
        )

    @classmethod
    def signed(
        cls,
        key: Identity,
        genesis_hash: bytes,
        recipient: str,
        amount: int,
        *,
        fee: int = 1,
        nonce: int = 0,
        timestamp: int | None = None,
        payload: str | None = None,
    ) -> "Transaction":
        """A transaction from `key`'s address, valid on the chain of that genesis."""
        at = int(time.time()) if timestamp is None else timestamp
        digest = _transaction_hash(genesis_hash, key.address, recipient, amount, fee, nonce, at, payload)
        return cls(key.address, recipient, amount, fee, nonce, at, payload, key.spki, key.sign(digest), digest)

    def to_json(self) -> dict[str, Json]:
        """The canonical fields in canonical order."""
        head: dict[str, Json] = {"sender": self.sender, "recipient": self.recipient, "amount": self.amount}
        head |= {"fee": self.fee, "nonce": self.nonce, "timestamp": self.timestamp}
        if self.payload is not None:
            head["payload"] = self.payload
        return head | {
            "public_key": b64(self.public_key), "signature": b64(self.signature), "hash": self.hash.hex()
        }

    def leaf(self) -> bytes:
        """The merkle leaf, which commits to key and signature as well."""
        return sha3(b"\x00", self.hash, lp(self.public_key), lp(self.signature))

    def check(self, genesis_hash: bytes) -> None:
        """Everything about a transaction that can be told without its block."""
        fields = (self.sender, self.recipient, self.amount, self.fee, self.nonce, self.timestamp, self.payload)
        if _transaction_hash(genesis_hash, *fields) != self.hash:
            raise ChainError(f"transaction {self.hash.hex()}: wrong hash")
        if address_of(self.public_key) != self.sender:
            raise ChainError(f"transaction {self.hash.hex()}: the key is not the sender's")
        try:
            identity.verify(load_key(self.public_key), self.hash, self.signature)
        except IdentityError as error:
            raise ChainError(f"transaction {self.hash.hex()}: {error}") from error


def _transaction_hash(
    genesis_hash: bytes,
    sender: str,
    recipient: str,
    amount: int,
    fee: int,
    nonce: int,
    timestamp: int,
    payload: str | None,
) -> bytes:
    numbers = u64(amount) + u64(fee) + u64(nonce) + u64(timestamp)
    return sha3(b"bt2c/tx/1", genesis_hash, lp(sender), lp(recipient), numbers, lp(payload or ""))


def merkle_root(leaves: list[bytes]) -> bytes:
    """The root over the leaves; a node without a partner moves up as it is."""
    if not leaves:
        return sha3()
    while len(leaves) > 1:
        pairs = [leaves[at : at + 2] for at in range(0, len(leaves), 2)]
        leaves = [sha3(b"\x01", *pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return leaves[0]


@dataclass(frozen=True)
class Block:
    height: int
    timestamp: int
    previous_hash: bytes
    merkle_root: bytes
    validator: str
    transactions: tuple[Transaction, ...]
    hash: bytes
    signature: bytes

    @classmethod
    def from_json(cls, value: Json) -> "Block":
        obj = _object(value, "block")
        return cls(
            height=integer(obj, "height"),
            timestamp=integer(obj, "timestamp"),
            previous_hash=_hash_field(obj, "previous_hash"),
            merkle_root=_hash_field(obj, "merkle_root"),
            validator=text(obj, "validator"),
            transactions=tuple(Transaction.from_json(item) for item in items(obj, "transactions")),
            hash=_hash_field(obj, "hash"),
            signature=_from_b64(obj, "signature"),
        )

    @classmethod
    def build(
        cls,
        height: int,
        timestamp: int,
        previous_hash: bytes,
        transactions: tuple[Transaction, ...] = (),
        key: Identity | None = None,
    ) -> "Block":
        """A block signed by `key`; without one, validator and signature are empty as in a genesis."""
        root = merkle_root([tx.leaf() for tx in transactions])
        validator = key.address if key else ""
        digest = _block_hash(height, timestamp, previous_hash, root, validator)
        signature = key.sign(digest) if key else b""
        return cls(height, timestamp, previous_hash, root, validator, transactions, digest, signature)

    def to_json(self) -> dict[str, Json]:
        """The canonical fields in canonical order."""
        return {
            "height": self.height,
            "timestamp": self.timestamp,
            "previous_hash": self.previous_hash.hex(),
            "merkle_root": self.merkle_root.hex(),
            "validator": self.validator,
            "transactions": [tx.to_json() for tx in self.transactions],
            "hash": self.hash.hex(),
            "signature": b64(self.signature),
        }

    @cached_property
    def canonical(self) -> bytes:
        """The canonical bytes, as stored, relayed and measured."""
        return dumps(self.to_json())

    def check_self(self) -> None:
        """Size, hash and merkle root: what the block proves by itself."""
        if len(self.canonical) > MAX_BLOCK_BYTES:
            raise ChainError(f"block {self.height}: {len(self.canonical)} bytes")
        if merkle_root([tx.leaf() for tx in self.transactions]) != self.merkle_root:
            raise ChainError(f"block {self.height}: wrong merkle root")
        if _block_hash(self.height, self.timestamp, self.previous_hash, self.merkle_root, self.validator) != self.hash:
            raise ChainError(f"block {self.height}: wrong hash")


def _block_hash(height: int, timestamp: int, previous_hash: bytes, root: bytes, validator: str) -> bytes:
    return sha3(b"bt2c/block/1", u64(height), u64(timestamp), previous_hash, root, lp(validator))

"""The default consensus rule: who may propose in which slot, and whether a whole chain is valid."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from . import identity
from .chain import Block, ChainError, lp, sha3, u16, u64
from .identity import IdentityError, address_of, load_key

TRANSACTION_AGE = 24 * 3600


@dataclass(frozen=True)
class Validator:
    """One entry of the genesis: its DER public key (which the address follows from) and its weight."""

    public_key: bytes
    weight: int

    @property
    def address(self) -> str:
        return address_of(self.public_key)


@dataclass(frozen=True)
class Genesis:
    """What a network's chain grows from; `time` is in seconds since the epoch."""

    network: str
    time: int
    block_time_ms: int
    validators: tuple[Validator, ...]

    @cached_property
    def block(self) -> Block:
        """Block 0, whose previous_hash commits to all the parameters."""
        entries = [lp(v.address) + lp(v.public_key) + u64(v.weight) for v in self.validators]
        count = u16(len(entries))
        seal = sha3(b"bt2c/genesis/1", lp(self.network), u64(self.block_time_ms), count, *entries)
        return Block.build(0, self.time, seal)

    @property
    def hash(self) -> bytes:
        return self.block.hash

    def slot(self, timestamp: int) -> int:
        """The slot that a time in seconds falls in."""
        return (timestamp - self.time) * 1000 // self.block_time_ms

    def slot_start(self, slot: int) -> int:
        """The first whole second in a slot."""
        return self.time - (-slot * self.block_time_ms // 1000)

    def proposer(self, slot: int) -> Validator:
        """The validator whose share of the cumulated weights the slot's hash falls in."""
        total = sum(v.weight for v in self.validators)
        point = int.from_bytes(sha3(b"bt2c/slot/1", self.hash, u64(slot)), "big") % total
        for validator in self.validators:
            if point < validator.weight:
                return validator
            point -= validator.weight
        raise AssertionError("the point lies below the sum of the weights")

    def check_block(self, block: Block, parent: Block) -> None:
        """All rules for a block on a parent that was checked before, but transactions repeated in the branch."""
        block.check_self()
        if block.height != parent.height + 1 or block.previous_hash != parent.hash:
            raise ChainError(f"block {block.height}: does not follow {parent.height}")
        slot = self.slot(block.timestamp)
        if slot <= self.slot(parent.timestamp):
            raise ChainError(f"block {block.height}: slot {slot} is not after its parent's")
        if block.timestamp > time.time() + max(self.block_time_ms / 10_000, 2):
            raise ChainError(f"block {block.height}: from the future")
        proposer = self.proposer(slot)
        if block.validator != proposer.address:
            raise ChainError(f"block {block.height}: {block.validator} does not propose in slot {slot}")
        try:
            identity.verify(load_key(proposer.public_key), block.hash, block.signature)
        except IdentityError as error:
            raise ChainError(f"block {block.height}: {error}") from error
        for tx in block.transactions:
            tx.check(self.hash)
            if not block.timestamp - TRANSACTION_AGE <= tx.timestamp <= block.timestamp:
                raise ChainError(f"block {block.height}: transaction dated {tx.timestamp}")

    def check_chain(self, blocks: Sequence[Block]) -> None:
        """The whole chain from its genesis on."""
        if not blocks or blocks[0] != self.block:
            raise ChainError("block 0 is not the genesis that the parameters give")
        seen: set[bytes] = set()
        for parent, block in zip(blocks, blocks[1:]):
            self.check_block(block, parent)
            for tx in block.transactions:
                if tx.hash in seen:
                    raise ChainError(f"block {block.height}: transaction {tx.hash.hex()} again")
                seen.add(tx.hash)

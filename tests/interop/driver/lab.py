"""What all checks of one run share: the binary, a chain, source addresses and the journal."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

from bt2c_peer import Block, Connection, Genesis, Identity, Journal, LocalPeer

from .node import Binary
from .report import Report, expect

BLOCKS = 300
EXTRA = 5
TRANSACTIONS = 3


@dataclass
class Lab:
    """`blocks` is a chain of genesis, BLOCKS blocks, and EXTRA more that running nodes do not have yet."""

    binary: Binary
    root: Path
    report: Report
    genesis: Genesis
    blocks: list[Block]
    journal: Journal = field(default_factory=Journal)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @classmethod
    async def prepare(cls, binary: Binary, root: Path, report: Report) -> "Lab":
        """Makes the chain with the binary's own tools, and verifies it before anything else relies on it."""
        genesis = await binary.genesis()
        home = root / "whole"
        await binary.chain(home, "generate", "--blocks", str(BLOCKS + EXTRA), "--txs", str(TRANSACTIONS))
        blocks = await binary.export(home)
        if blocks[0].height == 1:
            blocks.insert(0, genesis.block)
        genesis.check_chain(blocks)
        expect(len(blocks) == 1 + BLOCKS + EXTRA, f"{len(blocks)} blocks generated")
        return cls(binary, root, report, genesis, blocks)

    @property
    def known(self) -> list[Block]:
        """The part of the chain that nodes start with."""
        return self.blocks[: BLOCKS + 1]

    async def home(self, name: str, blocks: list[Block]) -> Path:
        """A data directory that holds `blocks`."""
        path = self.root / name
        await self.binary.import_blocks(path, blocks)
        return path

    def source(self) -> str:
        """A loopback address that no other connection of this run comes from."""
        number = next(self._numbers)
        return f"127.0.{10 + number // 250}.{1 + number % 250}"

    def peer(self, blocks: list[Block] | None = None, node_id: str | None = None) -> LocalPeer:
        """A new honest peer; it holds the genesis alone unless told otherwise."""
        chain = [self.genesis.block] if blocks is None else blocks
        return LocalPeer(identity=Identity(node_id), blocks=chain, journal=self.journal)

    async def dial(self, addr: str, peer: LocalPeer | None = None) -> Connection:
        """An honest connection from an address of its own."""
        return await (peer or self.peer()).dial(addr, source=self.source())

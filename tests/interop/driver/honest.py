"""What a peer that knows only the seed can do with a node: join, ask, fetch, serve, push."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bt2c_peer import Connection, Identity, LocalPeer, Transaction, wire
from bt2c_peer.pace import busiest_minute

from .lab import Lab
from .node import Node
from .report import expect, until

RELAY_WITHIN = 10.0
SYNC_WITHIN = 60.0
PING_WITHIN = 45.0
LIMIT_A_MINUTE = 100
FORK_DEPTH = 20


async def run(lab: Lab) -> None:
    """All honest checks, on a node with the known chain and on nodes that sync from a Python peer."""
    check = lab.report.check
    async with Node(lab.binary, await lab.home("a", lab.known)) as node:
        resident = await lab.dial(node.addr)
        await check("hello_both_ways", hello_both_ways(lab, node))
        await check("ping_pong", ping_pong(lab, node))
        await check("asks_everything", asks_everything(lab, node))
        await check("bare_envelope_accepted", bare_envelope_accepted(lab, node))
        await check("any_spelling_accepted", any_spelling_accepted(lab, node))
        await check("unknown_type_ignored", unknown_type_ignored(lab, node))
        await check("joins_without_a_chain", joins_without_a_chain(lab, node))
        await check("whole_chain_fetched_and_verified", whole_chain(lab, node))
        await check("transaction_relayed_once", transaction_relayed_once(lab, node))
        await check("block_relayed", block_relayed(lab, node))
        await check("node_syncs_from_python", node_syncs_from_python(lab))
        await check("forked_node_reorganises", forked_node_reorganises(lab))
        await check("node_pings", node_pings(resident))
        await check("stops_cleanly", stops_cleanly(node))


async def hello_both_ways(lab: Lab, node: Node) -> None:
    there = await lab.dial(node.addr)
    assert there.hello is not None
    data, tip = there.hello.data, lab.known[-1]
    expect(data["node_id"] == node.run["node_id"], f"node_id {data['node_id']}")
    expect(there.remote.label == node.run["node_id"], f"certificate names {there.remote.label}")
    expect(there.remote.peer_id == node.run["peer_id"], f"peer_id {there.remote.peer_id}")
    expect(str(data["version"]).startswith("1."), f"version {data['version']}")
    told = (data["block_height"], data["last_block_hash"])
    expect(told == (tip.height, tip.hash.hex()), f"hello tells tip {told}")
    there.abort()


async def ping_pong(lab: Lab, node: Node) -> None:
    there = await lab.dial(node.addr)
    expect(await there.ping(1712352000) == 1712352000, "another timestamp came back")
    there.abort()


async def asks_everything(lab: Lab, node: Node) -> None:
    there = await lab.dial(node.addr)
    await there.get_peers(1)
    expect(await there.get_blocks(0, 0) == lab.known[:1], "block 0 is not the genesis")
    expect(await there.get_blocks(7, 9) == lab.known[7:10], "blocks 7 to 9 differ")
    expect(await there.get_blocks(299, 400) == lab.known[299:], "the answer at the tip differs")
    expect(await there.get_blocks(10_000, 10_001) == [], "blocks above the tip")
    there.abort()


async def bare_envelope_accepted(lab: Lab, node: Node) -> None:
    """Outside hello, timestamp and sender may be missing, as in the seed's own samples."""
    there = await lab.dial(node.addr)
    answer = there.expect_answer("peers")
    await there.send_raw(wire.frame(b'{"type":"get_peers","data":{}}'))
    await asyncio.wait_for(answer, RELAY_WITHIN)
    there.abort()


async def any_spelling_accepted(lab: Lab, node: Node) -> None:
    """Field order, white space, escapes, unknown fields and a float as the envelope's timestamp change nothing."""
    there = await lab.dial(node.addr)
    answer = there.expect_answer("pong")
    body = ' {"colour": [1, {"a": null}], "timestamp": 1712352000.5, "sender": "someone else",\n'
    body += ' "data": {"x": "é", "timestamp": 77}, "type": "p\\u0069ng"} '
    await there.send_raw(wire.frame(body.encode()))
    pong = await asyncio.wait_for(answer, RELAY_WITHIN)
    expect(pong.data.get("timestamp") == 77, f"pong {pong.data}")
    there.abort()


async def unknown_type_ignored(lab: Lab, node: Node) -> None:
    there = await lab.dial(node.addr)
    await there.send("what_is_this", {"a": [1, 2, 3]})
    await there.ping()
    there.abort()


async def joins_without_a_chain(lab: Lab, node: Node) -> None:
    """A peer that does not even hold a genesis answers `get_blocks` with nothing, and stays welcome."""
    newcomer = lab.peer(blocks=[])
    there = await lab.dial(node.addr, newcomer)
    await there.get_blocks(0, 10)
    await there.ping()
    expect(not there.closed.done(), "closed on")
    there.abort()


async def whole_chain(lab: Lab, node: Node) -> None:
    there = await lab.dial(node.addr)
    started = time.monotonic()
    blocks = await there.get_chain(chunk=25)
    lab.genesis.check_chain(blocks)
    expect(blocks == lab.known, "valid, but not the chain that the node was given")
    expect(time.monotonic() - started < 60, "took over a minute")
    there.abort()


async def transaction_relayed_once(lab: Lab, node: Node) -> None:
    source, observer = await lab.dial(node.addr), await lab.dial(node.addr)
    key, other = Identity(), Identity()
    txs = [Transaction.signed(key, lab.genesis.hash, other.address, n, nonce=n, payload="hé\n") for n in (1, 2)]
    for tx in (txs[0], txs[0], txs[1]):
        await source.push_transaction(tx)
    for tx in txs:  # the second proves that the repetition before it was not relayed
        got = await asyncio.wait_for(observer.pushed.get(), RELAY_WITHIN)
        expect(got == tx, f"relayed {got}")
    await source.ping()
    expect(source.pushed.empty(), "relayed to its source")
    source.abort()
    observer.abort()


async def block_relayed(lab: Lab, node: Node) -> None:
    source, observer = await lab.dial(node.addr, lab.peer(lab.known)), await lab.dial(node.addr)
    fresh = lab.blocks[len(lab.known)]
    await source.push_block(fresh)
    got = await asyncio.wait_for(observer.pushed.get(), RELAY_WITHIN)
    expect(got == fresh, f"relayed {got}")
    await node.reaches(fresh, RELAY_WITHIN)
    expect(source.pushed.empty(), "relayed to its source")
    source.abort()
    observer.abort()


async def node_syncs_from_python(lab: Lab) -> None:
    """A fresh node gets the whole chain from a Python peer, inside its limits, and a pushed block on top."""
    server = lab.peer(lab.known)
    accepted: asyncio.Queue[Connection] = asyncio.Queue()
    async with serving(server, accepted) as addr, Node(lab.binary, lab.root / "b", "--connect", addr) as node:
        connection = await asyncio.wait_for(accepted.get(), RELAY_WITHIN)
        await node.reaches(lab.known[-1], SYNC_WITHIN)
        most = busiest_minute(server.asked)
        expect(most <= LIMIT_A_MINUTE, f"the node asked {most} times in a minute")
        fresh = lab.blocks[len(lab.known)]
        server.blocks = [*lab.known, fresh]
        await connection.push_block(fresh)
        await node.reaches(fresh, RELAY_WITHIN)


async def forked_node_reorganises(lab: Lab) -> None:
    """A node on a shorter branch finds the fork point with single-block requests and changes over."""
    home = await lab.home("fork", lab.known[:-FORK_DEPTH])
    await lab.binary.chain(home, "generate", "--blocks", "5", "--txs", "1")
    tip = (await lab.binary.export(home))[-1]
    expect(tip.height < lab.known[-1].height and tip != lab.known[tip.height], "the branch is no other branch")
    accepted: asyncio.Queue[Connection] = asyncio.Queue()
    async with serving(lab.peer(lab.known), accepted) as addr, Node(lab.binary, home, "--connect", addr) as node:
        await node.reaches(lab.known[-1], SYNC_WITHIN)


async def node_pings(resident: Connection) -> None:
    async def pinged() -> bool:
        expect(not resident.closed.done(), "closed on a peer that answers")
        return resident.pings > 0

    await until(pinged, "a ping", PING_WITHIN)


async def stops_cleanly(node: Node) -> None:
    status = await node.stop()
    expect(status == 0, f"exit status {status} after SIGTERM")


@asynccontextmanager
async def serving(peer: LocalPeer, accepted: "asyncio.Queue[Connection]") -> AsyncIterator[str]:
    """A Python peer that listens for as long as the block lasts; yields its address."""
    server = await peer.listen("127.0.0.1", accepted)
    try:
        yield "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
    finally:
        server.close()

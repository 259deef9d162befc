"""The hostile basics: after each attack the node is well; floods and repeated failures are banned; all is counted."""

import asyncio

from bt2c_peer import Closed, Identity, wire

from .attacks import ATTACKS, HANDSHAKE_WITHIN, VIOLATIONS, Attack, after_hello, greeted
from .lab import Lab
from .node import Node
from .report import Failed, expect


#: Making a key holds up this whole process: with few attacks at once their deadlines measure the node, not us.
AT_ONCE = 6


async def run(lab: Lab) -> None:
    """All attacks on one node, each followed by an honest peer; then what the node says about them."""
    check = lab.report.check
    async with Node(lab.binary, await lab.home("h", lab.known)) as node:
        attacks: dict[str, Attack] = {f"refuses_{name}": attack for name, attack in ATTACKS.items()}
        attacks |= {f"refuses_{name}": after_hello(raw) for name, raw in VIOLATIONS.items()}
        turn = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(check(name, survives(lab, node, attack, turn)) for name, attack in attacks.items()))
        await check("hundred_requests_served", hundred_requests_served(lab, node))
        await check("flood_of_requests_banned", flood_of_requests_banned(lab, node))
        await check("five_failed_attempts_banned", five_failed_attempts_banned(lab, node))
        await check("violations_counted", violations_counted(lab, node))


async def survives(lab: Lab, node: Node, attack: Attack, turn: asyncio.Semaphore) -> None:
    """Runs the attack when it has its turn, then asks the node something as an honest peer."""
    async with turn:
        await attack(lab, node, lab.source())
        await well(lab, node)


async def well(lab: Lab, node: Node) -> None:
    there = await lab.dial(node.addr)
    expect(await there.get_blocks(0, 0) == lab.known[:1], "the node does not serve its genesis any more")
    there.abort()


async def hundred_requests_served(lab: Lab, node: Node) -> None:
    """The seed's limit is what a peer may use up at once."""
    there = await lab.dial(node.addr)
    for _ in range(100):
        await there.get_peers(1)
    await there.ping()
    there.abort()


async def flood_of_requests_banned(lab: Lab, node: Node) -> None:
    """Far beyond the limit the connection ends, its address is banned, and others are still served."""
    source = lab.source()
    me = Identity()
    raw = await greeted(lab, node, source, me)
    await raw.send(wire.encode("get_peers", {"count": 1}, me.node_id) * 300)
    await raw.until_closed(HANDSHAKE_WITHIN)
    await refuses_address(lab, node, source)
    await well(lab, node)


async def five_failed_attempts_banned(lab: Lab, node: Node) -> None:
    source = lab.source()
    for _ in range(5):
        await ATTACKS["wrong_organisation"](lab, node, source)
    await refuses_address(lab, node, source)
    await well(lab, node)


async def refuses_address(lab: Lab, node: Node, source: str) -> None:
    """Another key from the same address is refused too, and the ban is shown."""
    try:
        (await lab.peer().dial(node.addr, source)).abort()
    except Closed:
        pass
    else:
        raise Failed(f"{source} is let in again")
    banned = await node.banned()
    expect(source in banned, f"{source} is not among the banned: {sorted(banned)}")


async def violations_counted(lab: Lab, node: Node) -> None:
    """`/metrics` counts at least the violations of peers that had said hello, under the code `protocol`."""
    counted = await node.counted("protocol")
    expect(counted >= len(VIOLATIONS), f"{counted:g} counted under protocol, {len(VIOLATIONS)} committed")

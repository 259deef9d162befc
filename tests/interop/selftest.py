"""The Python peer against itself: golden values made with the openssl command, the seed's samples, two peers talking.

Run with `python3 tests/interop/selftest.py`, or `python3 -m unittest selftest` from this directory.
"""

import asyncio
import base64
import datetime as dt
import json
import ssl
import time
import unittest
from pathlib import Path

from bt2c_peer import (
    Block, ChainError, Closed, Connection, Genesis, Identity, IdentityError, LocalPeer, Transaction, Validator,
    WireError, identity, wire,
)  # fmt: skip
from bt2c_peer.chain import lp, merkle_root, sha3, u64
from bt2c_peer.pace import busiest_minute
from bt2c_peer.ripemd160 import ripemd160

SPKI = base64.b64decode(
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA6lVNR0eF9PqAMhaXplj+Ym3ujbYXBSp32Rk4jtKWQDfdGZ2Xln3ZwIXdzqIGyZihOYo2"
    "qrxu/C2GRks5zJCkMMQaqv09YZ2thSiYGerh8c8uRUIsllju+pWrpNO60RB2aa1456rsy2ZZhweNA9M8T9zhev+BfJEYTii/SxJ3M0/WZfaitn8D"
    "+JEyBzm54FyFuqLN1yWgx5m6IM5Ms9+QcVkIHj7xR7srGbmp3Qw9V52za2ANxQ1IkDvDa+FDQAtm83hvqbVzPijblChixLOnL/yPdasqjpJaQeAW"
    "5lAdUH/oD8UyESatYaIZg489hNmuDgWmFSpHMoG/FYDsB28BzQIDAQAB"
)
SIGNATURE = base64.b64decode(
    "hdyxrDEdXhnyDH0Io8tHzvwyNHMvL0FGaf5jNsHk8+UAq1Ssk7WcKHN100aheV03oJ1MoraEJwFTRf8ZHPczZrdb7+FmHak0ptCZofeqRqBzfelB"
    "fNE4mOSQadtX75y6vjvehI2vZUzdx4OSVzMWlv78ecT8WN4uPBItySErixRPc5K9635pq0PWCC4E3cpb7ysDYyZOdWsScvfvSOSU37sDEepCocbD"
    "rQjsIrhEFMHOv7vwDnvVZM4nJcqYw0rvZElOb+6V0mIqAI34Wel2ZeNYyiqxgM18j9ckPO+rt8NUUrJNFjgmo4HRo1pe57H/W7XkoFpGSIY4VhaB"
    "mibQpQ=="
)
TX_HASH = "cbae1221c557230914a39026c9bd296c6a0cde3ca9458b1b91d4274b9f85ee11"
NO_LEAVES = "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a"
THAT_GENESIS = b"\xab" * 32
SEED_TIME = 1712352000

SEED_SAMPLES = {
    "hello": {"version": "1.0.0", "node_id": "node_id", "block_height": 1000, "last_block_hash": "hash"},
    "ping": {"timestamp": SEED_TIME},
    "pong": {"timestamp": SEED_TIME},
    "get_peers": {"count": 10},
    "peers": {"peers": ["192.0.2.1:8338", "[2001:db8::1]:8338"]},
    "get_blocks": {"start_height": 1000, "end_height": 1100},
    "blocks": {"blocks": []},
    "new_block": {"block": {}},
    "new_transaction": {"transaction": {}},
}


class Golden(unittest.TestCase):
    """Values computed with the openssl command from the text of the page."""

    def test_ripemd160(self) -> None:
        self.assertEqual(ripemd160(b"").hex(), "9c1185a5c5e9fc54612808977ee8f548b2258d31")
        self.assertEqual(ripemd160(b"abc").hex(), "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc")
        self.assertEqual(ripemd160(b"1234567890" * 8).hex(), "9b752e45573d4b39f4dbd3323cab82bf63326bfb")

    def test_certificates_of_the_vectors(self) -> None:
        """Certificates that keep the rules fail on their dates, which are judged last; the others before that."""
        path = Path(__file__).resolve().parents[2] / "crates/bt2c-proto/vectors/certificates.json"
        vectors = json.loads(path.read_text())
        self.assertGreater(len(vectors), 20)
        for vector in vectors:
            with self.subTest(vector["name"]), self.assertRaises(IdentityError) as caught:
                identity.check_certificate(base64.b64decode(vector["certificate"]))
            self.assertEqual(str(caught.exception) == "outside its validity", "error" not in vector, vector["name"])

    def test_address(self) -> None:
        self.assertEqual(identity.address_of(SPKI), "bt2c_3H5aBymHuaGGWSiGqLHzXoCvYdxi")
        self.assertEqual(identity.base58(b"\0\0\x01"), "112")

    def test_signature(self) -> None:
        key = identity.load_key(SPKI)
        identity.verify(key, bytes.fromhex(TX_HASH), SIGNATURE)
        for message, signature in ((b"\0" * 32, SIGNATURE), (bytes.fromhex(TX_HASH), SIGNATURE + b"\0")):
            with self.assertRaises(IdentityError):
                identity.verify(key, message, signature)

    def test_transaction(self) -> None:
        fields = dict(sender="bt2c_sender", recipient="bt2c_recipient", amount=150000000, fee=1000, nonce=7)
        fields |= dict(timestamp=SEED_TIME, public_key=b64(b"key"), signature=b64(b"signature"))
        with_payload = Transaction.from_json(fields | {"payload": "note", "hash": TX_HASH})
        self.assertEqual(with_payload.leaf().hex(), "f1f17d0188e7cd655dab560b70171f4c8909f9de58cd58d4f0c98626beb78e4d")
        without = "68b452932a87b154e693eb0d024294a5aad719ce1220d172027acd180acf6dd1"
        for tx in (with_payload, Transaction.from_json(fields | {"hash": without})):
            with self.assertRaisesRegex(ChainError, "the key is not the sender's"):  # so the hash was right
                tx.check(THAT_GENESIS)

    def test_block_and_merkle_root(self) -> None:
        root = bytes.fromhex(NO_LEAVES)
        self.assertEqual(merkle_root([]), root)
        digest = sha3(b"bt2c/block/1", u64(1000), u64(SEED_TIME), THAT_GENESIS, root, lp("bt2c_validator"))
        self.assertEqual(digest.hex(), "6dfa16dbf8bdfea0e9c004445fe5e16e22b03c91d623b204beaca1ab0d815d6e")
        block = Block(1000, SEED_TIME, THAT_GENESIS, root, "bt2c_validator", (), digest, b"")
        block.check_self()
        leaves = [bytes([n]) * 32 for n in (0x11, 0x22, 0x33)]
        self.assertEqual(merkle_root(leaves[:1]), leaves[0])
        self.assertEqual(
            merkle_root(leaves).hex(), "77caec82f5b02d23d0f2f1dac1073bf50d969ba1fbfb0a0c8766ca11a07f3263"
        )

    def test_genesis(self) -> None:
        genesis = Genesis("devnet", SEED_TIME, 2000, (Validator(SPKI, 3),))
        seal = "8fb8bd173908597752138acb963f875318aa8b4d2b688ae7836e5292c5a75ebc"
        self.assertEqual(genesis.block.previous_hash.hex(), seal)
        self.assertEqual(genesis.hash.hex(), "2cb8b8a331f6f0836ae50b09070a745a4321bc80a10d8eb5e39cd3fdc946823b")
        self.assertEqual([genesis.slot(SEED_TIME + s) for s in (0, 1, 2, 5)], [0, 0, 1, 2])
        drawn = sha3(b"bt2c/slot/1", genesis.hash, u64(5))
        self.assertEqual(drawn.hex(), "7ff7e9fa95aaecf23f2847df1bb964151dd208199b9643492b50bf3ec1068d23")


class Wire(unittest.TestCase):
    def test_seed_samples(self) -> None:
        for kind, data in SEED_SAMPLES.items():
            body = wire.encode(kind, data, "node_id")[4:]
            self.assertEqual(list(json.loads(body)), ["type", "data", "timestamp", "sender"])
            message = wire.decode(body)
            self.assertEqual((message.type, message.data, message.sender), (kind, data, "node_id"))
        self.assertIsNone(wire.decode(b'{"type": "ping", "data": {"timestamp": 1712352000}}').sender)

    def test_refusals(self) -> None:
        deep = b'{"type":"ping","data":' + b'{"a":' * 16 + b"1" + b"}" * 16 + b"}"
        bad = [b"", b"[]", b"\xff", b'{"type":1,"data":{}}', b'{"type":"ping","data":[]}', b'{"type":"a","type":"b"}']
        bad += [deep, b"[" * 100_000, b'{"type":"hello","data":{}}', b'{"type":"ping","data":{},"timestamp":NaN}']
        bad += [b'{"type":"\\ud800","data":{}}', b'{"type":"x","data":{"s":"' + b"a" * 65537 + b'"}}']
        for body in bad:
            with self.subTest(body[:40]), self.assertRaises(WireError):
                wire.decode(body)

    def test_integers(self) -> None:
        for spelled in ("-1", "-0", "1.0", "1e3", "true", "9007199254740992", "9" * 400, '"1"', "null"):
            with self.subTest(spelled), self.assertRaises(WireError):
                wire.decode(b'{"type":"pong","data":{"timestamp":%s}}' % spelled.encode()).integer("timestamp")

    def test_busiest_minute(self) -> None:
        self.assertEqual(busiest_minute([]), 0)
        self.assertEqual(busiest_minute([0.0, 10.0, 59.9, 60.0, 130.0]), 3)


class Peers(unittest.IsolatedAsyncioTestCase):
    """Two Python peers over TLS on loopback."""

    async def asyncSetUp(self) -> None:
        asyncio.get_running_loop().slow_callback_duration = 1  # making keys is slow and no fault
        self.validators = [Identity(), Identity()]
        entries = tuple(Validator(v.spki, weight) for v, weight in zip(self.validators, (3, 1)))
        self.genesis = Genesis("devnet", int(time.time()) - 1000, 2000, entries)
        self.server = LocalPeer(blocks=chain(self.genesis, self.validators, 20), known_peers=["127.0.0.9:8336"])
        self.accepted: asyncio.Queue[Connection] = asyncio.Queue()
        self.listener = await self.server.listen("127.0.0.1", self.accepted)
        self.addr = "127.0.0.1:%d" % self.listener.sockets[0].getsockname()[1]

    async def asyncTearDown(self) -> None:
        self.listener.close()

    async def test_ask_everything(self) -> None:
        client = LocalPeer(identity=Identity("client"), blocks=[self.genesis.block])
        there = await client.dial(self.addr, source="127.0.7.7")
        back = await self.accepted.get()
        self.assertEqual((there.remote.peer_id, back.node_id), (self.server.identity.peer_id, "client"))
        self.assertEqual(await there.ping(SEED_TIME), SEED_TIME)
        self.assertEqual(await there.get_peers(), ["127.0.0.9:8336"])
        blocks = await there.get_chain(chunk=8)
        self.genesis.check_chain(blocks)
        self.assertEqual(blocks, list(self.server.blocks))
        tx = Transaction.signed(client.identity, self.genesis.hash, self.server.identity.address, 5, payload="é\n")
        await there.push_transaction(tx)
        await there.push_block(blocks[-1])
        self.assertEqual([await back.pushed.get(), await back.pushed.get()], [tx, blocks[-1]])
        tx.check(self.genesis.hash)
        back.abort()
        await there.closed
        self.assertEqual(self.server.journal.faults + client.journal.faults, [])

    async def test_foreign_type_is_a_fault(self) -> None:
        client = LocalPeer()
        there = await client.dial(self.addr)
        await (await self.accepted.get()).send("throttled", {"type": "get_blocks"})
        await there.closed
        self.assertEqual(client.journal.foreign, {"throttled"})
        self.assertEqual(len(client.journal.faults), 1)

    async def test_refused_certificates(self) -> None:
        key, now = Identity().key, dt.datetime.now(dt.timezone.utc)
        day = dt.timedelta(days=1)
        cases = {
            "organisation": identity.build_certificate(key, "BT2C Node x", organisation="Other", not_before=now - day),
            "expired": identity.build_certificate(key, "BT2C Node x", not_before=now - 3 * day, lifetime=day),
            "not yet valid": identity.build_certificate(key, "BT2C Node x", not_before=now + day),
            "none": None,
        }
        for name, certificate in cases.items():
            context = identity.client_context()
            if certificate:
                identity.load_credentials(context, key, certificate)
            with self.subTest(name):
                self.assertEqual(await refused(self.addr, context), b"")
        self.assertTrue(self.accepted.empty())

    async def test_labels_and_same_names(self) -> None:
        for _ in range(2):  # two peers may bear one label
            (await LocalPeer(identity=Identity("same")).dial(self.addr)).abort()
        liar = LocalPeer(identity=Identity("one"))
        liar.identity.certificate  # made for the first label, kept
        liar.identity.node_id = "two"
        thief = LocalPeer(identity=Identity(self.server.identity.node_id))
        for refused_peer in (liar, thief):
            with self.assertRaises(Closed):
                await refused_peer.dial(self.addr)

    async def test_broken_chains(self) -> None:
        blocks = list(self.server.blocks)
        wrong_proposer = Block.build(1, blocks[1].timestamp, self.genesis.hash, (), Identity())
        for broken in (blocks[1:], blocks[:1] + blocks[2:], [blocks[0], wrong_proposer]):
            with self.assertRaises(ChainError):
                self.genesis.check_chain(broken)


async def refused(addr: str, context: ssl.SSLContext) -> bytes:
    """Dials with a context that must not get through; returns what was read all the same."""
    host, port = addr.split(":")
    try:
        reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname="bt2c")
        data = await reader.read(1)
        writer.transport.abort()
        return data
    except OSError:
        return b""


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def chain(genesis: Genesis, keys: list[Identity], length: int) -> list[Block]:
    """A valid chain with a transaction in every third block."""
    blocks = [genesis.block]
    by_address = {key.address: key for key in keys}
    for slot in range(1, length):
        at = genesis.slot_start(slot)
        txs = (Transaction.signed(keys[0], genesis.hash, keys[1].address, slot, timestamp=at),) if slot % 3 == 0 else ()
        proposer = by_address[genesis.proposer(slot).address]
        blocks.append(Block.build(slot, at, blocks[-1].hash, txs, proposer))
    return blocks


if __name__ == "__main__":
    unittest.main()

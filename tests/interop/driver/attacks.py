"""Attacks: each takes an address of its own to a running node and fails unless the node ends the connection."""

import asyncio
import datetime as dt
import ssl
from collections.abc import Awaitable, Callable

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bt2c_peer import Identity, identity, wire

from .lab import Lab
from .node import Node
from .raw import Raw, hello_frame
from .report import Failed, expect

REFUSED_WITHIN = 5.0
HANDSHAKE_WITHIN = 10.0 + 3
STARTED_FRAME_WITHIN = 30.0 + 5
DAY = dt.timedelta(days=1)

Attack = Callable[[Lab, Node, str], Awaitable[None]]

_BLOCKS_BACKWARDS = b'{"type":"get_blocks","data":{"start_height":2,"end_height":1}}'
_DEEP = b"[" * 100_000 + b"]" * 100_000
#: What a peer in good standing may send once, to be closed on with the code `protocol`.
VIOLATIONS = {
    "length_zero": (0).to_bytes(4, "big"),
    "length_over_the_limit": (wire.FRAME_LIMIT + 1).to_bytes(4, "big"),
    "length_with_the_highest_bit": (1 << 31 | 64).to_bytes(4, "big"),
    "not_json": wire.frame(b"GET / HTTP/1.1\r\n\r\n"),
    "not_utf8": wire.frame(b'{"type":"ping","data":{"timestamp":1,"x":"\xff\xfe"}}'),
    "deep": wire.frame(b'{"type":"ping","data":{"timestamp":1,"x":' + _DEEP + b"}}"),
    "deep_in_an_unknown_type": wire.frame(b'{"type":"nonsense","data":{"x":' + _DEEP + b"}}"),
    "data_no_object": wire.frame(b'{"type":"ping","data":[]}'),
    "key_given_twice": wire.frame(b'{"type":"ping","data":{"timestamp":1,"timestamp":2}}'),
    "fraction_for_an_integer": wire.frame(b'{"type":"get_peers","data":{"count":1.0}}'),
    "blocks_backwards": wire.frame(_BLOCKS_BACKWARDS),
}


def with_certificate(
    make_key: Callable[[], rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey],
    organisation: str = identity.ORGANISATION,
    starts: dt.timedelta = -DAY,
    lifetime: dt.timedelta = identity.LIFETIME,
) -> Attack:
    """A certificate that breaks one rule; the node must not even say hello."""

    async def attack(lab: Lab, node: Node, source: str) -> None:
        key, start = make_key(), dt.datetime.now(dt.timezone.utc) + starts
        context = identity.client_context()
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # OpenSSL would not load the small key otherwise
        certificate = identity.build_certificate(
            key, "BT2C Node mallory", organisation=organisation, not_before=start, lifetime=lifetime
        )
        identity.load_credentials(context, key, certificate)
        await refused_in_tls(lab, node, source, context)

    return attack


def rsa_key(bits: int = 2048) -> Callable[[], rsa.RSAPrivateKey]:
    return lambda: rsa.generate_private_key(65537, bits)


async def refused_in_tls(lab: Lab, node: Node, source: str, context: ssl.SSLContext) -> None:
    """In TLS 1.3 a client learns only after its handshake that it was refused: so say hello and see it unanswered."""
    try:
        raw = await Raw.open(node.addr, source, lab.journal, context)
    except OSError:
        return
    await raw.hello(Identity("mallory"))
    kinds = await raw.until_closed(REFUSED_WITHIN)
    expect(not kinds, f"answered with {kinds}")


async def tls12_only(lab: Lab, node: Node, source: str) -> None:
    me = Identity("mallory")
    context = me.client_context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    await refused_in_tls(lab, node, source, context)


async def no_client_certificate(lab: Lab, node: Node, source: str) -> None:
    await refused_in_tls(lab, node, source, identity.client_context())


async def other_alpn(lab: Lab, node: Node, source: str) -> None:
    context = Identity("mallory").client_context()
    context.set_alpn_protocols(["h2"])
    await refused_in_tls(lab, node, source, context)


async def no_tls(lab: Lab, node: Node, source: str) -> None:
    raw = await Raw.open(node.addr, source, lab.journal)
    await raw.send(hello_frame(Identity("mallory")))
    expect(b"hello" not in await raw.read_to_end(HANDSHAKE_WITHIN), "answered in the clear")


def before_hello(frame: bytes) -> Attack:
    """A first message that is no hello; nothing but the end may follow."""

    async def attack(lab: Lab, node: Node, source: str) -> None:
        raw = await Raw.open(node.addr, source, lab.journal, Identity().client_context())
        await raw.send(frame)
        kinds = await raw.until_closed(REFUSED_WITHIN)
        expect(not kinds, f"answered with {kinds}")

    return attack


def after_hello(frame: bytes) -> Attack:
    """A violation by a peer whose handshake was in order."""

    async def attack(lab: Lab, node: Node, source: str) -> None:
        raw = await greeted(lab, node, source)
        await raw.send(frame)
        await raw.until_closed(REFUSED_WITHIN)

    return attack


async def greeted(lab: Lab, node: Node, source: str, me: Identity | None = None) -> Raw:
    """A raw connection with both hellos through."""
    me = me or Identity()
    raw = await Raw.open(node.addr, source, lab.journal, me.client_context())
    await raw.hello(me)
    first = await asyncio.wait_for(raw.read_message(), REFUSED_WITHIN)
    if first is None or first.type != "hello":
        raise Failed(f"no hello came back but {first}")
    return raw


async def two_hellos(lab: Lab, node: Node, source: str) -> None:
    me = Identity()
    raw = await greeted(lab, node, source, me)
    await raw.hello(me)
    await raw.until_closed(REFUSED_WITHIN)


async def stolen_label(lab: Lab, node: Node, source: str) -> None:
    await liar(lab, node, source, Identity(Identity().peer_id[:40]))


async def label_unlike_certificate(lab: Lab, node: Node, source: str) -> None:
    me = Identity("alice")
    expect(me.certificate, "made for the first label, and kept")
    me.node_id = "bob"
    await liar(lab, node, source, me)


async def liar(lab: Lab, node: Node, source: str, me: Identity) -> None:
    raw = await Raw.open(node.addr, source, lab.journal, me.client_context())
    await raw.hello(me)
    kinds = await raw.until_closed(REFUSED_WITHIN)
    expect(set(kinds) <= {"hello"}, f"answered with {kinds}")


async def half_open(lab: Lab, node: Node, source: str) -> None:
    raw = await Raw.open(node.addr, source, lab.journal)
    await raw.read_to_end(HANDSHAKE_WITHIN)


async def silent_after_tls(lab: Lab, node: Node, source: str) -> None:
    raw = await Raw.open(node.addr, source, lab.journal, Identity().client_context())
    await raw.send((100).to_bytes(4, "big") + b'{"type":')
    await raw.until_closed(HANDSHAKE_WITHIN)


async def frame_never_finished(lab: Lab, node: Node, source: str) -> None:
    raw = await greeted(lab, node, source)
    await raw.send((100).to_bytes(4, "big") + b'{"type":')
    await raw.until_closed(STARTED_FRAME_WITHIN)


#: How to be refused, by name; those after a good hello are in VIOLATIONS.
ATTACKS: dict[str, Attack] = {
    "wrong_organisation": with_certificate(rsa_key(), organisation="BT2C Notwork"),
    "rsa_1024": with_certificate(rsa_key(1024)),
    "elliptic_curve_key": with_certificate(lambda: ec.generate_private_key(ec.SECP256R1())),
    "expired_certificate": with_certificate(rsa_key(), starts=-3 * DAY, lifetime=DAY),
    "certificate_not_yet_valid": with_certificate(rsa_key(), starts=DAY),
    "tls_1_2_only": tls12_only,
    "no_client_certificate": no_client_certificate,
    "other_alpn_only": other_alpn,
    "no_tls": no_tls,
    "request_before_hello": before_hello(wire.encode("get_peers", {"count": 10}, "mallory")),
    "long_frame_before_hello": before_hello((wire.HANDSHAKE_LIMIT + 1).to_bytes(4, "big")),
    "two_hellos": two_hellos,
    "stolen_label": stolen_label,
    "label_unlike_certificate": label_unlike_certificate,
    "half_open": half_open,
    "hello_never_finished": silent_after_tls,
    "frame_never_finished": frame_never_finished,
}

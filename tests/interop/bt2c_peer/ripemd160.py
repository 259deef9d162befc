"""RIPEMD-160, which OpenSSL 3 no longer offers by default and BT2C addresses need.

Two lines of five rounds run over each 64-byte block with different word orders and shifts; their results are
added crosswise into the state. `selftest.py` holds the published test vectors.
"""

_MASK = 0xFFFF_FFFF
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0)
_LEFT_CONSTANTS = (0x00000000, 0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xA953FD4E)
_RIGHT_CONSTANTS = (0x50A28BE6, 0x5C4DD124, 0x6D703EF3, 0x7A6D76E9, 0x00000000)

# The word order of each round is the one before it, sent through this permutation; the right line starts elsewhere.
_RHO = (7, 4, 13, 1, 10, 6, 15, 3, 12, 0, 9, 5, 2, 14, 11, 8)
# Shifts by round and by message word.
_SHIFTS = (
    (11, 14, 15, 12, 5, 8, 7, 9, 11, 13, 14, 15, 6, 7, 9, 8),
    (12, 13, 11, 15, 6, 9, 9, 7, 12, 15, 11, 13, 7, 8, 7, 7),
    (13, 15, 14, 11, 7, 7, 6, 8, 13, 14, 13, 12, 5, 5, 6, 9),
    (14, 11, 12, 14, 8, 6, 5, 5, 15, 12, 15, 14, 9, 9, 8, 6),
    (15, 12, 13, 13, 9, 5, 8, 6, 14, 11, 12, 11, 8, 6, 5, 5),
)


def _orders(first: list[int]) -> list[list[int]]:
    orders = [first]
    while len(orders) < 5:
        orders.append([_RHO[word] for word in orders[-1]])
    return orders


_LEFT_ORDERS = _orders(list(range(16)))
_RIGHT_ORDERS = _orders([(9 * i + 5) % 16 for i in range(16)])


def _mix(function: int, x: int, y: int, z: int) -> int:
    if function == 0:
        return x ^ y ^ z
    if function == 1:
        return (x & y) | (~x & z)
    if function == 2:
        return (x | ~y) ^ z
    if function == 3:
        return (x & z) | (y & ~z)
    return x ^ (y | ~z)


def _rotate(value: int, shift: int) -> int:
    value &= _MASK
    return (value << shift | value >> (32 - shift)) & _MASK


def _line(state: tuple[int, ...], words: list[int], right: bool) -> tuple[int, ...]:
    a, b, c, d, e = state
    orders = _RIGHT_ORDERS if right else _LEFT_ORDERS
    constants = _RIGHT_CONSTANTS if right else _LEFT_CONSTANTS
    for round_number in range(5):
        function = 4 - round_number if right else round_number
        for word in orders[round_number]:
            total = a + _mix(function, b, c, d) + words[word] + constants[round_number]
            turned = (_rotate(total, _SHIFTS[round_number][word]) + e) & _MASK
            a, b, c, d, e = e, turned, b, _rotate(c, 10), d
    return a, b, c, d, e


def ripemd160(message: bytes) -> bytes:
    """The 20-byte RIPEMD-160 digest of `message`."""
    padded = message + b"\x80" + b"\x00" * (-(len(message) + 9) % 64) + (8 * len(message)).to_bytes(8, "little")
    h = _START
    for at in range(0, len(padded), 64):
        words = [int.from_bytes(padded[at + i : at + i + 4], "little") for i in range(0, 64, 4)]
        left, right = _line(h, words, False), _line(h, words, True)
        h = tuple((h[(i + 1) % 5] + left[(i + 2) % 5] + right[(i + 3) % 5]) & _MASK for i in range(5))
    return b"".join(value.to_bytes(4, "little") for value in h)

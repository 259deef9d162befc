"""An independent BT2C peer, written from the seed document and the protocol page, never from the Rust code."""

from .chain import Block, ChainError, Transaction
from .consensus import Genesis, Validator
from .connection import Closed, Connection
from .identity import Identity, IdentityError
from .journal import Journal
from .peer import LocalPeer
from .wire import Envelope, WireError

__all__ = [
    "Block", "ChainError", "Closed", "Connection", "Envelope", "Genesis", "Identity", "IdentityError", "Journal",
    "LocalPeer", "Transaction", "Validator", "WireError",
]  # fmt: skip

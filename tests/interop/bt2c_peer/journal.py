"""What a whole run of peers saw, so that one check at the end can speak for all connections."""

from collections import Counter
from dataclasses import dataclass, field

from .wire import SEED_TYPES


@dataclass
class Journal:
    """Message types received, and every fault of a remote side that a peer noticed."""

    received: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def record(self, kind: str) -> None:
        """Counts one message."""
        self.received[kind] += 1

    def fault(self, what: str) -> None:
        """Notes that the remote side broke the page."""
        self.faults.append(what)

    @property
    def foreign(self) -> set[str]:
        """Received types that the seed document does not define."""
        return set(self.received) - SEED_TYPES

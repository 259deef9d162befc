"""A requester's own pace, so that an honest peer never meets the other side's limit."""

import asyncio
import time
from collections import deque

MINUTE = 60.0


class Pace:
    """At most `per_minute` requests in any sixty seconds; `wait` holds the caller back until one more fits."""

    def __init__(self, per_minute: int = 33) -> None:
        self._per_minute = per_minute
        self._sent: deque[float] = deque()

    async def wait(self) -> None:
        """Returns when one more request fits, and counts it."""
        while len(self._sent) >= self._per_minute:
            left = self._sent[0] + MINUTE - time.monotonic()
            if left <= 0:
                self._sent.popleft()
            else:
                await asyncio.sleep(left)
        self._sent.append(time.monotonic())


def busiest_minute(times: list[float]) -> int:
    """The most events that any sixty seconds of `times` (ascending) hold."""
    most, first = 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= MINUTE:
            first += 1
        most = max(most, last - first + 1)
    return most

"""Named checks: one line each as it ends, and the count at the end."""

import asyncio
from collections.abc import Awaitable, Callable

CHECK_TIMEOUT = 120.0


class Failed(Exception):
    """A check did not find what it expects."""


def expect(condition: object, why: str) -> None:
    """Fails the running check unless `condition` holds."""
    if not condition:
        raise Failed(why)


async def until(condition: Callable[[], Awaitable[bool]], what: str, within: float) -> None:
    """Looks again and again until `condition` holds; fails the check when it does not in time."""
    try:
        async with asyncio.timeout(within):
            while not await condition():
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise Failed(f"{what}: not within {within:g} s") from error


class Report:
    """Collects what the checks found."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.failed: list[str] = []

    async def check(self, name: str, body: Awaitable[None]) -> bool:
        """Runs one check under a deadline and prints its line."""
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                await body
        except Exception as error:  # whatever goes wrong is this check's failure and not the end of the run
            self._fail(name, error)
            return False
        self.passed.append(name)
        print(f"ok {name}", flush=True)
        return True

    async def guard(self, name: str, group: Awaitable[None]) -> None:
        """Runs a group of checks; what fails outside of its checks (a node that does not start) counts as a failure."""
        try:
            await group
        except Exception as error:
            self._fail(name, error)

    def _fail(self, name: str, error: Exception) -> None:
        why = str(error) if isinstance(error, Failed) else repr(error)
        self.failed.append(name)
        print(f"FAIL {name}: {why}", flush=True)

    def finish(self) -> int:
        """Prints the count and returns the exit status."""
        print(f"{len(self.passed)} passed, {len(self.failed)} failed")
        return 1 if self.failed or not self.passed else 0

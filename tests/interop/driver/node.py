"""The node binary: its commands, a running process, and its control API. Only CLI.md's contract is relied on."""

import asyncio
import base64
import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from bt2c_peer import Block, Genesis, Validator, wire

from .report import Failed, expect, until

START_TIMEOUT = 30.0
STOP_TIMEOUT = 20.0
COMMAND_TIMEOUT = 300.0
NETWORK = "devnet"


class Binary:
    """Commands of `bt2c-node` that end by themselves."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def command(self, *args: str) -> str:
        """Runs a command to its end and returns what it printed; a failure carries its error line."""
        process = await asyncio.create_subprocess_exec(
            self.path, *args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT):
                out, err = await process.communicate()
        except BaseException:
            process.kill()
            raise
        if process.returncode != 0:
            raise Failed(f"`bt2c-node {' '.join(args)}` ended with {process.returncode}: {err.decode().strip()[-400:]}")
        return out.decode()

    async def chain(self, home: Path, action: str, *args: str) -> str:
        """A `chain` command on the store of a stopped node."""
        home.mkdir(parents=True, exist_ok=True)
        return await self.command("chain", action, *args, "--network", NETWORK, "--data-dir", str(home))

    async def export(self, home: Path) -> list[Block]:
        """All blocks of a store, which must be written in canonical form."""
        path = home.with_suffix(".jsonl")
        await self.chain(home, "export", str(path))
        blocks = []
        for line in path.read_bytes().splitlines():
            block = Block.from_json(wire.loads(line))
            expect(block.canonical == line, f"export: block {block.height} is not in canonical form")
            blocks.append(block)
        return blocks

    async def import_blocks(self, home: Path, blocks: list[Block]) -> None:
        """Puts blocks into a fresh store."""
        path = home.with_suffix(".import.jsonl")
        path.write_bytes(b"".join(block.canonical + b"\n" for block in blocks))
        await self.chain(home, "import", str(path))

    async def genesis(self) -> Genesis:
        """The built-in devnet genesis: the one thing besides the page that a verifier must be given."""
        shown = json.loads(await self.command("genesis", "show", "--network", NETWORK, "--json"))
        entries = [(base64.b64decode(v["public_key"]), v["weight"]) for v in shown["validators"]]
        at = _first(shown, "genesis_time", "timestamp", "time")
        block_time_ms = shown["block_time_ms"]
        return Genesis(shown["network"], at, block_time_ms, tuple(Validator(*entry) for entry in entries))


def _first(obj: dict[str, Any], *keys: str) -> Any:
    for key in keys:
        if key in obj:
            return obj[key]
    raise Failed(f"none of {', '.join(keys)} in {sorted(obj)}")


class Node:
    """A running node; leave its `async with` block and the process is gone."""

    def __init__(self, binary: Binary, home: Path, *args: str) -> None:
        self._home, self._binary, self._args = home, binary, args
        self._process: asyncio.subprocess.Process | None = None
        self.run: dict[str, Any] = {}

    @property
    def addr(self) -> str:
        """Where it listens for peers."""
        return str(self.run["p2p_addr"])

    async def __aenter__(self) -> "Node":
        self._home.mkdir(parents=True, exist_ok=True)
        fixed = ("--network", NETWORK, "--data-dir", str(self._home), "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0")
        with open(self._home.with_suffix(".log"), "wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                self._binary.path, "run", *fixed, *self._args, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            await until(self._started, f"run.json of {self._home.name}", START_TIMEOUT)
        except BaseException:
            await self._kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._kill()

    async def _started(self) -> bool:
        assert self._process is not None
        if self._process.returncode is not None:
            log = self._home.with_suffix(".log").read_text(errors="replace")
            raise Failed(f"the node ended with {self._process.returncode}: {log.strip()[-400:]}")
        try:
            self.run = json.loads((self._home / "run.json").read_bytes())
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        return self.run.get("pid") == self._process.pid

    async def _kill(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def stop(self) -> int:
        """Asks the process to end and returns its exit status."""
        assert self._process is not None
        self._process.terminate()
        async with asyncio.timeout(STOP_TIMEOUT):
            return await self._process.wait()

    async def get(self, path: str) -> bytes:
        """GET from the control API."""

        def fetch() -> bytes:
            with urllib.request.urlopen(f"http://{self.run['api_addr']}{path}", timeout=10) as answer:
                return bytes(answer.read())

        return await asyncio.to_thread(fetch)

    async def status(self) -> dict[str, Any]:
        """GET /status."""
        return dict(json.loads(await self.get("/status")))

    async def reaches(self, block: Block, within: float) -> None:
        """Waits until the node's tip is `block`."""

        async def there() -> bool:
            status = await self.status()
            return (status["height"], status["tip_hash"]) == (block.height, block.hash.hex())

        await until(there, f"tip at block {block.height}", within)

    async def banned(self) -> set[str]:
        """The subjects of GET /bans."""
        return {ban["subject"] for ban in json.loads(await self.get("/bans"))}

    async def counted(self, code: str) -> float:
        """The sum of all samples in GET /metrics that bear `code` as a label's value."""
        samples = (await self.get("/metrics")).decode().splitlines()
        found = [line for line in samples if not line.startswith("#") and re.search(f'="{code}"', line)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

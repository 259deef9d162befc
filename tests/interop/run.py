"""Holds a bt2c-node binary to the protocol page with an independent peer. See README.md."""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from driver import honest, hostile
from driver.lab import Lab
from driver.node import Binary
from driver.report import Report, expect

REPOSITORY = Path(__file__).resolve().parents[2]


def find_binary() -> Path:
    """The newest built binary below the repository; builds one when there is none."""
    places = [REPOSITORY / "target" / profile / "bt2c-node" for profile in ("release", "debug")]
    built = [path for path in places if path.is_file()]
    if not built:
        subprocess.run(["cargo", "build", "--release", "-p", "bt2c-node"], cwd=REPOSITORY, check=True)
        built = places[:1]
    return max(built, key=lambda path: path.stat().st_mtime)


async def only_seed_types(lab: Lab) -> None:
    """Over all connections of the run, the node sent what the seed defines, in the one form of the page."""
    foreign, faults = lab.journal.foreign, lab.journal.faults
    expect(not foreign, f"received {sorted(foreign)}")
    expect(not faults, f"{len(faults)} faults, first: {faults[:3]}")
    expect(lab.journal.received["hello"] > 1, "hardly anything was received")


async def run(binary: Path, root: Path, report: Report) -> None:
    """Prepares the chain, then runs the honest and the hostile checks beside each other, on nodes of their own."""
    labs: list[Lab] = []

    async def prepare() -> None:
        labs.append(await Lab.prepare(Binary(binary), root, report))

    if not await report.check("chain_tools_agree_with_the_page", prepare()):
        return
    lab = labs[0]
    await asyncio.gather(
        report.guard("honest", honest.run(lab)),
        report.guard("hostile", hostile.run(lab)),
    )
    await report.check("only_messages_of_the_seed", only_seed_types(lab))


def main() -> int:
    """Parses the command line and runs everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--node", type=Path, help="the bt2c-node binary (default: the newest under target/)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="put data directories and logs there and keep them")
    args = parser.parse_args()
    binary, report = args.node or find_binary(), Report()
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=False)
        asyncio.run(run(binary, args.keep.resolve(), report))
    else:
        with tempfile.TemporaryDirectory(prefix="bt2c-interop-") as root:
            asyncio.run(run(binary, Path(root), report))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())

"""Scans the TLS of a running bt2c-node from outside, with sslyze, and holds it to the protocol page. See README.md."""

import argparse
import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# sslyze reads trust stores that this scan does not use, and the library under it complains of one of them.
warnings.filterwarnings("ignore", module="sslyze")

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from nassl._nassl import OpenSSLError
from nassl.ssl_client import OpenSslVerifyEnum, OpenSslVersionEnum, SslClient
from sslyze import (
    ClientAuthenticationCredentials,
    ScanCommand,
    ScanCommandAttemptStatusEnum,
    Scanner,
    ServerNetworkConfiguration,
    ServerNetworkLocation,
    ServerScanRequest,
    ServerScanResult,
)

REPOSITORY = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
# What a node needs to start, or a connection to be answered, at most.
PATIENCE = 20.0

# The header of a frame that is too long: the node ends a connection that begins so.
NO_FRAME = b"\xff" * 4

# docs/protocol.md: TLS 1.3 is the only version; these are all suites of RFC 8446 that have their integrity from an AEAD with a
# full tag, which is what the node's library speaks.
SUITES = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
# sslyze's library is older than X25519MLKEM768, which a test in Rust sees negotiated.
GROUPS = {"X25519", "secp256r1", "secp384r1"}
OLD_VERSIONS = {
    "SSL 2.0": ScanCommand.SSL_2_0_CIPHER_SUITES,
    "SSL 3.0": ScanCommand.SSL_3_0_CIPHER_SUITES,
    "TLS 1.0": ScanCommand.TLS_1_0_CIPHER_SUITES,
    "TLS 1.1": ScanCommand.TLS_1_1_CIPHER_SUITES,
    "TLS 1.2": ScanCommand.TLS_1_2_CIPHER_SUITES,
}
STRANGER = set(OLD_VERSIONS.values()) | {
    ScanCommand.TLS_1_3_CIPHER_SUITES,
    ScanCommand.CERTIFICATE_INFO,
    ScanCommand.TLS_COMPRESSION,
    ScanCommand.SESSION_RENEGOTIATION,
    ScanCommand.SESSION_RESUMPTION,
    ScanCommand.ELLIPTIC_CURVES,
    ScanCommand.HEARTBLEED,
    ScanCommand.OPENSSL_CCS_INJECTION,
    ScanCommand.ROBOT,
}
# What only somebody with a certificate can ask about.
MEMBER = {ScanCommand.TLS_1_3_CIPHER_SUITES}


@dataclass
class Table:
    """What was expected and what was found."""

    rows: list[tuple[bool, str, str, str]] = field(default_factory=list)

    def expect(self, what: str, expected: object, found: object) -> None:
        """Notes a comparison."""
        self.rows.append((expected == found, what, show(expected), show(found)))

    def finish(self) -> int:
        """Prints everything; the exit code."""
        rows = [("", "what", "expected", "found")]
        rows += [("ok" if good else "FAIL", what, expected, found) for good, what, expected, found in self.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        for row in rows:
            print("  ".join([*(text.ljust(width) for text, width in zip(row, widths)), row[3]]).rstrip())
        failed = sum(not good for good, *_ in self.rows)
        print(f"{len(self.rows) - failed} as documented, {failed} not")
        return 1 if failed else 0


def show(value: object) -> str:
    """A value for people, the same each time."""
    if isinstance(value, set):
        return ", ".join(sorted(value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


@contextlib.contextmanager
def node(binary: Path, home: Path) -> Iterator[int]:
    """A devnet node without peers; its port. A scan is hundreds of failed attempts, so the scanner is allow-listed: without
    `allow` the fifth of them would ban it for an hour, which is what happens to whoever scans a node in the wild."""
    command = [binary, "run", "--network", "devnet", "--listen", f"{HOST}:0", "--api", "off", "--data-dir", home]
    with (home / "log").open("wb") as log:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BT2C_")}
        environment |= {"BT2C_ALLOW": "127.0.0.0/8"}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    try:
        yield port_of(process, home)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def port_of(process: subprocess.Popen[bytes], home: Path) -> int:
    """Waits until the node says where it listens."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            return int(json.loads((home / "run.json").read_bytes())["p2p_addr"].rpartition(":")[2])
        time.sleep(0.05)
    raise SystemExit(f"the node does not start:\n{(home / 'log').read_text()}")


def scan(port: int, commands: set[ScanCommand], own: Path | None) -> ServerScanResult:
    """One scan; with the identity in a data directory, if one is named."""
    credentials = own and ClientAuthenticationCredentials(own / "identity.crt", own / "identity.key")
    request = ServerScanRequest(
        server_location=ServerNetworkLocation("localhost", port, ip_address=HOST),
        network_configuration=ServerNetworkConfiguration(
            tls_server_name_indication="bt2c.invalid",
            tls_client_auth_credentials=credentials,
            network_timeout=int(PATIENCE),
        ),
        scan_commands=commands,
    )
    # Two handshakes an IP may be under way.
    scanner = Scanner(per_server_concurrent_connections_limit=2)
    scanner.queue_scans([request])
    result = next(iter(scanner.get_results()))
    if result.scan_result is None:
        raise SystemExit(f"sslyze cannot talk to the node: {result.connectivity_error_trace}")
    return result


def outcome(result: ServerScanResult, command: ScanCommand) -> object:
    """What a command found. One that did not come to an end proves nothing, so it is an error."""
    attempt = getattr(result.scan_result, command.value)
    if attempt.status != ScanCommandAttemptStatusEnum.COMPLETED:
        raise SystemExit(f"{command.value}: {attempt.status.value}, {attempt.error_reason}, {attempt.error_trace}")
    return attempt.result


def check_stranger(table: Table, result: ServerScanResult) -> None:
    """What somebody without a certificate sees."""
    for name, command in OLD_VERSIONS.items():
        found = outcome(result, command)
        table.expect(f"suites of {name}", set(), {suite.cipher_suite.name for suite in found.accepted_cipher_suites})
        table.expect(f"suites of {name} were tried", True, len(found.rejected_cipher_suites) > 0)
    found = outcome(result, ScanCommand.TLS_1_3_CIPHER_SUITES)
    table.expect("suites of TLS 1.3", SUITES, {suite.cipher_suite.name for suite in found.accepted_cipher_suites})
    found = outcome(result, ScanCommand.ELLIPTIC_CURVES)
    table.expect("classical groups", GROUPS, {curve.name for curve in found.supported_curves})
    table.expect("client certificate", "REQUIRED", result.connectivity_result.client_auth_requirement.value)
    table.expect("compression", False, outcome(result, ScanCommand.TLS_COMPRESSION).supports_compression)
    found = outcome(result, ScanCommand.SESSION_RENEGOTIATION)
    table.expect("renegotiations by a client", 0, found.client_renegotiations_success_count)
    found = outcome(result, ScanCommand.SESSION_RESUMPTION)
    table.expect("resumption by session id", "SERVER_IS_TLS_1_3_ONLY", found.session_id_resumption_result.value)
    table.expect("resumption by TLS 1.2 ticket", "SERVER_IS_TLS_1_3_ONLY", found.tls_ticket_resumption_result.value)
    table.expect("Heartbleed", False, outcome(result, ScanCommand.HEARTBLEED).is_vulnerable_to_heartbleed)
    found = outcome(result, ScanCommand.OPENSSL_CCS_INJECTION)
    table.expect("injection of ChangeCipherSpec", False, found.is_vulnerable_to_ccs_injection)
    found = outcome(result, ScanCommand.ROBOT)
    table.expect("RSA decryption (ROBOT)", "NOT_VULNERABLE_RSA_NOT_SUPPORTED", found.robot_result.value)
    check_certificate(table, outcome(result, ScanCommand.CERTIFICATE_INFO))


def check_certificate(table: Table, info: object) -> None:
    """The node's certificate, as the protocol page says that one is issued."""
    table.expect("certificates, one for all", 1, len(info.certificate_deployments))
    chain = info.certificate_deployments[0].received_certificate_chain
    table.expect("length of the chain", 1, len(chain))
    certificate = chain[0]
    key = certificate.public_key()
    table.expect("key is RSA", True, isinstance(key, RSAPublicKey))
    table.expect("bits of the key", 2048, key.key_size)
    table.expect("exponent of the key", 65537, key.public_numbers().e)
    table.expect("version", "v3", certificate.version.name)
    table.expect("signature", "sha256WithRSAEncryption", certificate.signature_algorithm_oid._name)
    table.expect("issuer is subject", True, certificate.issuer == certificate.subject)
    certificate.verify_directly_issued_by(certificate)
    names = {attribute.rfc4514_attribute_name: attribute.value for attribute in certificate.subject}
    table.expect("organisation", "BT2C Network", names.get("O"))
    table.expect("common name", True, names.get("CN", "").startswith("BT2C Node "))
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    table.expect("days of its life", 365, life.days)


def check_member(table: Table, result: ServerScanResult, port: int, own: Path) -> None:
    """What somebody with a certificate sees, which is every peer."""
    found = outcome(result, ScanCommand.TLS_1_3_CIPHER_SUITES)
    table.expect("suites for a peer", SUITES, {suite.cipher_suite.name for suite in found.accepted_cipher_suites})
    first = Meeting.of(port, own, None)
    table.expect("version for a peer", "TLSv1.3", first.version)
    table.expect("ALPN for a peer", "bt2c/1", first.protocol)
    table.expect("session tickets for a peer", False, bool(first.session and first.session.has_ticket))
    again = Meeting.of(port, own, first)
    table.expect("resumption for a peer that comes back", False, again.reused)
    table.expect("early data from a peer that comes back", "impossible", early_data(port, own))
    table.expect("peer without certificate", "TLSV13_ALERT_CERTIFICATE_REQUIRED", refusal(port, None))


def context(own: Path | None) -> ssl.SSLContext:
    """A client of Python's own library."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_alpn_protocols(["bt2c/1"])
    if own:
        client.load_cert_chain(own / "identity.crt", own / "identity.key")
    return client


@dataclass
class Meeting:
    """An honest connection of Python's own TLS library, which is another than sslyze's, up to where hello would come."""

    client: ssl.SSLContext
    version: str | None
    protocol: str | None
    reused: bool | None
    session: ssl.SSLSession | None

    @classmethod
    def of(cls, port: int, own: Path, before: "Meeting | None") -> "Meeting":
        """Meets the node, with the session of a meeting before, and reads until it ends the connection for what is no frame:
        until then a ticket could come."""
        client, session = (before.client, before.session) if before else (context(own), None)
        with socket.create_connection((HOST, port), PATIENCE) as raw:
            with client.wrap_socket(raw, session=session) as stream:
                version, protocol = stream.version(), stream.selected_alpn_protocol()
                stream.sendall(NO_FRAME)
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    while stream.recv(4096):
                        pass
                return cls(client, version, protocol, stream.session_reused, stream.session)


def early_data(port: int, own: Path) -> str:
    """Whether data can be sent before the handshake, once there was one. sslyze's own check speaks HTTP, so this is made of
    the library under it."""

    def client() -> SslClient:
        raw = socket.create_connection((HOST, port), PATIENCE)
        version, verify = OpenSslVersionEnum.TLSV1_3, OpenSslVerifyEnum.NONE
        chain, key = own / "identity.crt", own / "identity.key"
        return SslClient(raw, version, verify, client_certificate_chain=chain, client_key=key)

    first = client()
    first.do_handshake()
    first.write(NO_FRAME)
    with contextlib.suppress(Exception):  # whichever way the end of a connection is told
        while first.read(4096):
            pass
    second = client()
    second.set_session(first.get_session())
    try:
        second.write_early_data(b"E")
    except OpenSSLError as error:
        # The library has a session, and the session lets it send nothing early.
        return "impossible" if "function you should not call" in str(error) else str(error)
    second.do_handshake()
    return second.get_early_data_status().name


def refusal(port: int, own: Path | None) -> str:
    """With which alert the node ends a handshake."""
    try:
        with socket.create_connection((HOST, port), PATIENCE) as raw, context(own).wrap_socket(raw) as stream:
            stream.recv(1)
    except ssl.SSLError as error:
        return error.reason or str(error)
    return "served"


def main() -> int:
    """Starts a node, scans it and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = REPOSITORY / "target" / "debug" / "bt2c-node"
    parser.add_argument("--node", type=Path, default=default, help="the bt2c-node binary (default: the debug build)")
    binary = parser.parse_args().node.resolve()
    table = Table()
    with tempfile.TemporaryDirectory(prefix="bt2c-tls-") as root:
        home, own = Path(root, "node"), Path(root, "peer")
        home.mkdir()
        # The identity of another node: what every peer has.
        subprocess.run([binary, "id", "--data-dir", own], check=True, stdout=subprocess.DEVNULL)
        with node(binary, home) as port:
            check_stranger(table, scan(port, STRANGER, None))
            check_member(table, scan(port, MEMBER, own), port, own)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())

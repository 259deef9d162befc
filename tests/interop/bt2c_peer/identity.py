"""Keys, certificates and TLS by the rules of the protocol page.

The standard library has no hook that accepts a self-signed certificate nobody knows beforehand: a listener either does
not ask for one (`CERT_NONE`) or fails the handshake. The way out is `SSLContext._msg_callback`, which sees each
handshake message before OpenSSL acts on it: when the Certificate message comes in, the rules below are applied to it
and, if they hold, that one certificate becomes the trust anchor it is then checked against. The anchors live in the
context, so each accepted connection gets a context of its own. A dialer needs no such care: with `CERT_NONE` OpenSSL
still proves possession of the key, and the rules are applied to the certificate after the handshake.
"""

import datetime as dt
import hashlib
import ssl
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from .ripemd160 import ripemd160

ALPN = "bt2c/1"
ORGANISATION = "BT2C Network"
CN_PREFIX = "BT2C Node "
CERTIFICATE_LIMIT = 4096
DATE_TOLERANCE = dt.timedelta(minutes=10)
LIFETIME = dt.timedelta(days=365)

_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME: our own date rule is the wider one
_CERTIFICATE_MESSAGE = 11
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)


class IdentityError(Exception):
    """A key or a certificate breaks a rule of the page."""


def base58(raw: bytes) -> str:
    """Base58 with one `1` for each leading zero byte."""
    number, digits = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        digits = _BASE58[digit] + digits
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + digits


def address_of(spki: bytes) -> str:
    """The chain address of a public key."""
    return "bt2c_" + base58(ripemd160(hashlib.sha256(spki).digest()))


def spki_of(key: rsa.RSAPublicKey) -> bytes:
    """The DER SubjectPublicKeyInfo of a key."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_key(spki: bytes) -> rsa.RSAPublicKey:
    """Parses a public key under the key rule: plain RSA, 2048 to 4096 bits, e = 65537, nothing behind it."""
    try:
        key = serialization.load_der_public_key(spki)
    except Exception as error:
        raise IdentityError("not a public key") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise IdentityError("not an RSA key")
    if not 2048 <= key.key_size <= 4096 or key.public_numbers().e != 65537:
        raise IdentityError(f"RSA key of {key.key_size} bits, e = {key.public_numbers().e}")
    if spki_of(key) != spki:
        raise IdentityError("the key is not in its one DER form")
    return key


def verify(key: rsa.RSAPublicKey, message: bytes, signature: bytes) -> None:
    """Checks an RSA-PSS signature over `message` (which SHA-256 digests once more, as PSS does)."""
    if len(signature) != (key.key_size + 7) // 8:
        raise IdentityError("the signature is not as long as the modulus")
    try:
        key.verify(signature, message, _PSS, hashes.SHA256())
    except InvalidSignature as error:
        raise IdentityError("wrong signature") from error


@dataclass(frozen=True)
class RemoteIdentity:
    """What a certificate that passed the rules says."""

    peer_id: str
    label: str | None


def check_certificate(der: bytes) -> RemoteIdentity:
    """Applies the certificate rules of the page."""
    if len(der) > CERTIFICATE_LIMIT:
        raise IdentityError("certificate over 4 KiB")
    try:
        certificate = x509.load_der_x509_certificate(der)
        key, subject = certificate.public_key(), certificate.subject
    except Exception as error:
        raise IdentityError("the certificate does not parse") from error
    if certificate.public_bytes(serialization.Encoding.DER) != der:
        raise IdentityError("something stands behind the certificate")
    if not isinstance(key, rsa.RSAPublicKey):
        raise IdentityError("not an RSA key")
    spki = spki_of(key)
    load_key(spki)
    if spki not in der:
        raise IdentityError("the key is not in its one DER form")
    if [name.value for name in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] != [ORGANISATION]:
        raise IdentityError("wrong organisation")
    now = dt.datetime.now(dt.timezone.utc)
    if not certificate.not_valid_before_utc - DATE_TOLERANCE <= now <= certificate.not_valid_after_utc + DATE_TOLERANCE:
        raise IdentityError("outside its validity")
    names = [str(name.value) for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    label = names[0].removeprefix(CN_PREFIX) if len(names) == 1 and names[0].startswith(CN_PREFIX) else None
    return RemoteIdentity(hashlib.sha256(spki).hexdigest(), label)


class Identity:
    """An RSA key with the names derived from it, and the label its certificate bears."""

    def __init__(self, node_id: str | None = None, key: rsa.RSAPrivateKey | None = None) -> None:
        self.key = key or rsa.generate_private_key(65537, 2048)
        self.spki = spki_of(self.key.public_key())
        self.peer_id = hashlib.sha256(self.spki).hexdigest()
        self.node_id = node_id or self.peer_id[:40]
        self.address = address_of(self.spki)

    def sign(self, message: bytes) -> bytes:
        """An RSA-PSS signature over `message`."""
        return self.key.sign(message, _PSS, hashes.SHA256())

    @cached_property
    def certificate(self) -> x509.Certificate:
        """The certificate every honest peer shows: valid from the midnight a day before, for 365 days."""
        midnight = dt.datetime.now(dt.timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
        return build_certificate(self.key, CN_PREFIX + self.node_id, not_before=midnight - dt.timedelta(days=1))

    def client_context(self) -> ssl.SSLContext:
        """TLS for dialing; the caller applies `check_certificate` to what the listener showed."""
        context = client_context()
        load_credentials(context, self.key, self.certificate)
        return context

    def server_context(self) -> ssl.SSLContext:
        """TLS for one accepted connection; its client must show a certificate that passes the rules."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        context.set_alpn_protocols([ALPN])
        load_credentials(context, self.key, self.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= _NO_CHECK_TIME
        context._msg_callback = _trust_what_passes_the_rules  # type: ignore[attr-defined]
        return context


def client_context() -> ssl.SSLContext:
    """TLS 1.3 for dialing, without credentials."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    return context


def build_certificate(
    key: x509.base.CertificateIssuerPrivateKeyTypes,
    common_name: str,
    *,
    organisation: str = ORGANISATION,
    not_before: dt.datetime,
    lifetime: dt.timedelta = LIFETIME,
) -> x509.Certificate:
    """A self-signed certificate; the arguments let a test break one rule at a time."""
    parts = {NameOID.ORGANIZATION_NAME: organisation, NameOID.COMMON_NAME: common_name}
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in parts.items()])
    builder = x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(not_before).not_valid_after(not_before + lifetime)
    return builder.sign(key, hashes.SHA256())


def load_credentials(
    context: ssl.SSLContext, key: x509.base.CertificateIssuerPrivateKeyTypes, certificate: x509.Certificate
) -> None:
    """Puts key and certificate into `context`, which reads them from files only."""
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "identity.pem"
        path.touch(mode=0o600)
        path.write_bytes(pem)
        context.load_cert_chain(path)


def _trust_what_passes_the_rules(
    connection: ssl.SSLObject, direction: str, _version: object, _content: object, message: int, data: bytes
) -> None:
    if direction != "read" or message != _CERTIFICATE_MESSAGE:
        return
    certificates = _certificate_list(data)
    if len(certificates) == 1:
        check_certificate(certificates[0])
        connection.context.load_verify_locations(cadata=certificates[0])


def _certificate_list(message: bytes) -> list[bytes]:
    """The entries of a TLS 1.3 Certificate message (RFC 8446, 4.4.2)."""
    at = 5 + message[4]  # message header, then the request context
    end = at + 3 + int.from_bytes(message[at : at + 3], "big")
    at += 3
    certificates = []
    while at < end:
        length = int.from_bytes(message[at : at + 3], "big")
        certificates.append(message[at + 3 : at + 3 + length])
        at += 3 + length
        at += 2 + int.from_bytes(message[at : at + 2], "big")  # its extensions
    return certificates

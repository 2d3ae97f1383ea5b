"""Certificates: an authority of the test's own, and what it issues."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_YEAR = timedelta(days=365)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority:
    """Its own certificate is `ca`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._key = generate_private_key(SECP256R1())
        made = self._builder(_name(name), self._key, datetime.now(UTC) + _YEAR)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(made.sign(self._key, SHA256()).public_bytes(Encoding.PEM))

    def _builder(self, subject: x509.Name, key: EllipticCurvePrivateKey, until: datetime) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder(issuer_name=_name(self._name), subject_name=subject)
        made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
        return made.not_valid_before(until - 2 * _YEAR).not_valid_after(until)

    def issue(self, file: str, name: str, *, expired: bool = False) -> tuple[Path, Path]:
        """A certificate for a name or an address, and its key, as files; an expired one ended yesterday."""
        key = generate_private_key(SECP256R1())
        until = datetime.now(UTC) + (-timedelta(days=1) if expired else _YEAR)
        made = self._builder(_name(file), key, until)
        made = made.add_extension(x509.SubjectAlternativeName([_alternative(name)]), critical=False)
        certificate, secret = self._folder / f"{file}.pem", self._folder / f"{file}.key"
        certificate.write_bytes(made.sign(self._key, SHA256()).public_bytes(Encoding.PEM))
        secret.touch(0o600)
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, secret

    def tls(self, file: str, name: str = "127.0.0.1", *, expired: bool = False, mutual: bool = False) -> str:
        """A server's `tls` block with a certificate of its own; `mutual` asks clients for one, too."""
        certificate, secret = self.issue(file, name, expired=expired)
        verify = f', ca_file: "{self.ca}", verify: true' if mutual else ""
        return f'tls {{ cert_file: "{certificate}", key_file: "{secret}"{verify} }}'

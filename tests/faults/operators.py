"""Operators, accounts and users by JWT, as `nsc` would make them."""

from __future__ import annotations

import binascii
import json
import time
from base64 import b32encode, b64encode, urlsafe_b64encode
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Kind = Literal["operator", "account", "user"]
_PREFIXES: dict[Kind, int] = {"operator": 14 << 3, "account": 0, "user": 20 << 3}
_SEED = 18 << 3
_UNLIMITED = ("subs", "data", "payload")
_ROOM = ("conn", "leaf", "imports", "exports", "mem_storage", "disk_storage", "streams", "consumer")


def _text(data: bytes) -> str:
    """Bytes as nkeys write them: with a checksum, in base32."""
    return b32encode(data + binascii.crc_hqx(data, 0).to_bytes(2, "little")).decode().rstrip("=")


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


class Nkey:
    """A pair of keys."""

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind
        self._key = Ed25519PrivateKey.generate()

    @property
    def public(self) -> str:
        """The public key, the name by which NATS knows its owner."""
        return _text(bytes([_PREFIXES[self.kind]]) + self._key.public_key().public_bytes_raw())

    @property
    def seed(self) -> str:
        """The secret."""
        prefix = _PREFIXES[self.kind]
        return _text(bytes([_SEED | prefix >> 5, (prefix & 31) << 3]) + self._key.private_bytes_raw())

    def sign(self, data: bytes) -> bytes:
        """A signature."""
        return self._key.sign(data)


def _jwt(issuer: Nkey, subject: Nkey, nats: dict[str, Any], expires: int | None = None) -> str:
    header = {"typ": "JWT", "alg": "ed25519-nkey"}
    claims = {"jti": "test", "iat": int(time.time()), "iss": issuer.public, "sub": subject.public, "name": "test"}
    claims |= {"nats": {"type": subject.kind, "version": 2, **nats}}
    if expires is not None:
        claims["exp"] = expires
    signed = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
    return f"{signed}.{_base64(issuer.sign(signed.encode()))}"


class Operator:
    """An operator with one account that has JetStream."""

    def __init__(self) -> None:
        root, self._account, system = Nkey("operator"), Nkey("account"), Nkey("account")
        self._root = root
        # The system account may not have JetStream.
        limits = dict.fromkeys((*_UNLIMITED, "conn", "leaf"), -1)
        self._base = f"operator: {_jwt(root, root, {})}\nsystem_account: {system.public}\nresolver: MEMORY\n"
        self._preload = f"{system.public}: {_jwt(root, system, {'limits': limits})}"

    def config(self, *revoked: Nkey) -> str:
        """The configuration of a server that trusts it; revoked are the tokens users have by now."""
        limits = {**dict.fromkeys(_UNLIMITED + _ROOM, -1), "wildcards": True}
        revocations = {user.public: int(time.time()) for user in revoked}
        account = _jwt(self._root, self._account, {"limits": limits, "revocations": revocations})
        return f"{self._base}resolver_preload: {{ {self._preload}, {self._account.public}: {account} }}\n"

    def token(self, user: Nkey, expires: int | None = None) -> str:
        """A user's JWT, valid until a time in seconds since 1970."""
        return _jwt(self._account, user, dict.fromkeys(_UNLIMITED, -1), expires)

    def creds(self, user: Nkey, expires: int | None = None) -> str:
        """The text of a user's credentials file."""
        jwt = f"-----BEGIN NATS USER JWT-----\n{self.token(user, expires)}\n------END NATS USER JWT------\n"
        return f"{jwt}\n-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"

    def access(self, user: Nkey) -> dict[str, Any]:
        """How nats-py signs in as a user."""

        def jwt() -> bytes:
            return self.token(user).encode()

        def signature(nonce: str) -> bytes:
            return b64encode(user.sign(nonce.encode()))

        return {"user_jwt_cb": jwt, "signature_cb": signature}


def write_secret(file: Path, text: str) -> None:
    """Replaces a file that only its owner may read, in one step: nobody ever reads half of it."""
    new = file.with_name(f".{file.name}")
    new.touch(0o600)
    new.write_text(text)
    new.replace(file)

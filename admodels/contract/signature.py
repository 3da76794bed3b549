"""Whether a bundle's manifest is signed by the key that serving trusts: Ed25519 over the bytes of `manifest.json`.

`manifest.sig` holds the 64 bytes as they are, so that `openssl pkeyutl -rawin` makes and checks them too. The manifest
names the bundle, its version and the sha256 of every file, hence the signature covers the whole bundle and holds for
no other name or version. Needs the package cryptography, which only who signs or checks installs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Check = Callable[[bytes, bytes], bool]
"""(manifest's bytes, signature's bytes) → whether the signature is the key's."""

SIGNATURE = "manifest.sig"
SIGNATURE_BYTES = 64
_MAX_KEY_BYTES = 1 << 16


class KeyUnusableError(Exception):
    """The key's file can't be read, holds another kind of key, or nothing here can check signatures."""


def checker(path: Path) -> Check:
    """What checks signatures by the public key in the PEM file at `path`. Raises KeyUnusableError."""
    pem = _read(path)
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise KeyUnusableError(_INSTALL) from error
    try:
        key = load_pem_public_key(pem)
    except Exception as error:  # its parsers raise several kinds, and the text may quote the file
        raise KeyUnusableError(f"{path} holds no public key in PEM form; {_PUBLIC}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnusableError(f"{path} holds a key that isn't Ed25519; {_PUBLIC}")

    def check(manifest: bytes, signature: bytes) -> bool:
        try:
            key.verify(signature, manifest)
        except InvalidSignature:
            return False
        return True

    return check


def sign(manifest: bytes, private_key: Path) -> bytes:
    """The 64 bytes of the signature by the private key in the PEM file. Raises KeyUnusableError."""
    pem = _read(private_key)
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise KeyUnusableError(_INSTALL) from error
    try:
        key = load_pem_private_key(pem, password=None)
    except Exception as error:  # as above; an encrypted key is a TypeError
        raise KeyUnusableError(f"{private_key} holds no private key in PEM form without a password; {_MAKE}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusableError(f"{private_key} holds a key that isn't Ed25519; {_MAKE}")
    return key.sign(manifest)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise KeyUnusableError(f"the key {path} can't be read: {error.strerror}") from error


_INSTALL = "signatures need the package cryptography: pip install 'adscore[signing]'"
_MAKE = "`openssl genpkey -algorithm ed25519 -out private.pem` makes one"
_PUBLIC = "`openssl pkey -in private.pem -pubout -out public.pem` writes it"

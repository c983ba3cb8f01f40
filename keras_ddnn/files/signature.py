"""Ed25519 signatures: who wrote an artefact, which no hash can tell.

A key pair is two PEM files, made once by OpenSSL. The first stays where artefacts are saved; the
second goes to every machine that is to run them, by another way than the artefacts:

    openssl genpkey -algorithm ed25519 -out private.pem
    openssl pkey -in private.pem -pubout -out public.pem

It needs the package `cryptography`, of the extra `sign`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

NEEDED = "signatures need the package cryptography: pip install 'keras_ddnn[sign]'"
# A key, or its PEM file; a union in quotes, for `cryptography` need not be there.
Key: TypeAlias = Union[str, Path, "Ed25519PrivateKey", "Ed25519PublicKey"]


def private_key(key: Key) -> "Ed25519PrivateKey":
    """Return the private Ed25519 key of a PEM file; a key itself is returned as it is.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds no unencrypted private Ed25519 key, or `cryptography` is missing.
    """
    return _key(key, "private")


def public_key(key: Key) -> "Ed25519PublicKey":
    """Return the public Ed25519 key of a PEM file; raises as `private_key`."""
    return _key(key, "public")


def require_signature(content: bytes, path: Path, key: "Ed25519PublicKey") -> None:
    """Raise ValueError unless a file holds the signature of some bytes by the holder of a key.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If there is no such file, or the signature is of another key or other bytes.
    """
    if not path.is_file():
        raise ValueError(
            f"{path.parent} is not signed: expected {path.name}; received none: ask whoever "
            "saved it to sign it by keras_ddnn.sign_artifact"
        )
    require_signed(content, path.read_bytes(), path, key)


def require_signed(content: bytes, signature: bytes, path: Path, key: "Ed25519PublicKey") -> None:
    """Raise ValueError, which names a file, unless a signature is that of some bytes by a key."""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, content)
    except InvalidSignature:
        raise ValueError(
            f"{path}: expected the signature of the key asked for; received that of another key, "
            "or of what has been changed since"
        ) from None


def _key(key: object, kind: str) -> Any:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise ValueError(NEEDED) from None
    kinds: dict[str, tuple[type, Callable[..., Any], dict[str, Any]]] = {
        "private": (
            ed25519.Ed25519PrivateKey,
            serialization.load_pem_private_key,
            {"password": None},
        ),
        "public": (ed25519.Ed25519PublicKey, serialization.load_pem_public_key, {}),
    }
    expected, load, options = kinds[kind]
    if isinstance(key, expected):
        return key
    remedy = f"expected an unencrypted {kind} Ed25519 key in a PEM file"
    if not isinstance(key, str | Path):
        raise ValueError(f"{remedy}; received {type(key).__name__}")
    content = Path(key).read_bytes()
    try:
        loaded = load(content, **options)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if kind == "public" and b"PRIVATE KEY" in content:
            raise ValueError(
                f"{key}: {remedy}; received a private key: make its public one by "
                f"openssl pkey -in {key} -pubout -out public.pem"
            ) from None
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(f"{key}: {remedy}; {reason}") from None
    if not isinstance(loaded, expected):
        raise ValueError(f"{key}: {remedy}; received {type(loaded).__name__}")
    return loaded

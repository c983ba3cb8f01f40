"""The secret that both machines read from a file."""

from pathlib import Path


def read_token(path: Path) -> str:
    """Return the token in a file, without the white space around it.

    Raises:
        ValueError: If the file cannot be read, or holds no token of printable ASCII characters.
    """
    try:
        token = path.read_bytes().strip().decode("ascii", "replace")
    except OSError as error:
        raise ValueError(
            f"--token-file {path}: {error.strerror}: name a file that holds the token; "
            "openssl rand -hex 32 makes one"
        ) from None
    if not token:
        raise ValueError(f"expected a token in {path}; received an empty file")
    if not (token.isascii() and token.isprintable()):  # of a secret, no more is told
        raise ValueError(f"expected a token of printable ASCII characters in {path}")
    return token

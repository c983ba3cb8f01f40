"""What a service needs before it serves: a port, a certificate, descriptors."""

import resource
import socket
import ssl
from pathlib import Path

SPARE_DESCRIPTORS = 384  # for files, and connections on their way in and out


def bound_socket(host: str, port: int) -> socket.socket:
    """Take a port, without listening yet.

    Args:
        host: An address, or a name of one of this machine's.
        port: In 0..65535; 0 takes any that is free.

    Raises:
        ValueError: If the port is out of range.
        OSError: If the name is unknown, or the port is taken.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port must lie in 0..65535; received {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise OSError(
            f"cannot listen at {host}, port {port}: {error.strerror}; choose another by --host "
            f"or --port"
        ) from None
    return listener


def tls_context(certificate: str | Path, key: str | Path) -> ssl.SSLContext:
    """Return what serves https.

    Args:
        certificate: A PEM file, with those of the authorities between if there are any.
        key: A PEM file with its private key, not encrypted.

    Raises:
        OSError: If a file cannot be read, is none, or the key is another certificate's.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without a password an encrypted key would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except OSError as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            raise OSError(
                f"the key does not belong to the certificate: {key} is that of another than "
                f"{certificate}; give both of one pair"
            ) from None
        raise OSError(
            f"expected a certificate and its key in PEM files; {certificate} and {key} have: "
            f"{error.strerror or error}"
        ) from None
    return context


def room_for_connections(most: int) -> int:
    """Return how many connections there are descriptors for, at most `most`.

    The limit of this process is raised as far as the system lets it.

    Raises:
        OSError: If there are none to speak of.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = most if soft == resource.RLIM_INFINITY else min(most, soft - SPARE_DESCRIPTORS)
    if room < 1:
        raise OSError(f"expected more than {SPARE_DESCRIPTORS} descriptors (ulimit -n); got {soft}")
    return room

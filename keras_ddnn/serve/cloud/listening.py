"""What a service needs before it serves, a port and a token among it; and how it serves."""

import argparse
import resource
import socket
import ssl
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from keras_ddnn.files.notices import add_forms, said_as, tell_error, tell_event
from keras_ddnn.files.signals import ending_of, interruptible
from keras_ddnn.serve.protocol.token_file import read_token

if TYPE_CHECKING:
    from starlette.types import ASGIApp

SPARE_DESCRIPTORS = 384  # for files, and connections on their way in and out


class Listening(NamedTuple):
    """Where a service listens, and whom it lets in.

    Attributes:
        listener: A port that is taken.
        tls: What serves https; None for http.
        token: What requests must carry; None for nothing.
        hosts: Names that a request may call the service by, beside its addresses.
        room: Connections that there are descriptors for.
        url: Of the service.
    """

    listener: socket.socket
    tls: ssl.SSLContext | None
    token: str | None
    hosts: set[str]
    room: int
    url: str


def add_listening_options(parser: argparse.ArgumentParser, port: int) -> None:
    """Add the options that `listening_of` reads; `port` is the default one."""
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    add("--port", type=int, default=port, help="0 takes any that is free (%(default)s)")
    add_access_options(parser)
    add("--tls-certificate", type=Path, help="a PEM file, to serve https")
    add("--tls-key", type=Path, help="the PEM file of its private key")


def add_access_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say who may ask a service, and by which names."""
    add = parser.add_argument
    add("--token-file", type=Path, help="a file with the token to ask for")
    add("--no-token", action="store_true", help="let other machines ask without a token")
    add(
        "--allow-host",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names by which requests may call this service, beside its addresses, --host, "
        "localhost and this machine's own name",
    )


def until_a_signal(
    parser: argparse.ArgumentParser, serve: Callable[[argparse.Namespace], None], what: str
) -> None:
    """Run a service until a signal; what is queued then is still answered.

    The exit code is 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM and 129 after SIGHUP.

    Args:
        parser: Of its command line.
        serve: Serves by the options.
        what: What has ended, in the last line.
    """
    add_forms(parser)
    options = parser.parse_args()
    with said_as(options), interruptible() as received:
        try:
            serve(options)
        except (OSError, ValueError) as error:
            tell_error(error)
            parser.exit(2)
        except KeyboardInterrupt:  # uvicorn raises the signal again, once it has answered
            code, word = ending_of(received)
            tell_event("ended", f"{word}: {what} has ended", cause=word)
            parser.exit(code)


def serve(app: "ASGIApp", listening: Listening, said: str, **event: Any) -> None:
    """Serve an application until a signal, and log to standard error from now on.

    Args:
        app: What is served.
        listening: Of `listening_of`.
        said: What the event "serving" says to people, before the URL.
        event: Of the event, beside `url`; see `tell_event`.
    """
    # Imported only now, so that --help answers at once.
    from keras_ddnn.serve.cloud.logs import log_to_stderr
    from keras_ddnn.serve.cloud.server import server_of

    log_to_stderr()
    tell_event("serving", f"{said}, at {listening.url}", **event, url=listening.url)
    server_of(app, most=listening.room, tls=listening.tls).run(sockets=[listening.listener])


def listening_of(options: argparse.Namespace) -> Listening:
    """Take what the options ask for, before anything that takes long.

    Args:
        options: Of `add_listening_options`.

    Raises:
        ValueError: If other machines could ask without a token and nobody has said that they may,
            or an option is out of range.
        OSError: If a file cannot be used, or the port is taken.
    """
    from keras_ddnn.serve.cloud.server import MAX_CONNECTIONS

    token = options.token_file and read_token(options.token_file)
    tls, room = _tls(options), room_for_connections(MAX_CONNECTIONS)
    listener = bound_socket(options.host, options.port)
    _require_guard(listener, options, token, tls)
    hosts = {"localhost", socket.gethostname(), options.host, *options.allow_host}
    url = f"{'https' if tls else 'http'}://{options.host}:{listener.getsockname()[1]}"
    return Listening(listener, tls, token, hosts, room, url)


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


def _tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    """Return what serves https, or None."""
    pair = options.tls_certificate, options.tls_key
    if None not in pair:
        return tls_context(*pair)
    if pair != (None, None):
        raise ValueError("expected both --tls-certificate and --tls-key; received one of them")
    return None


def require_token(options: argparse.Namespace, token: str | None) -> None:
    """Raise ValueError for a service of other machines without a token, unless they may ask."""
    if not token and not options.no_token:
        raise ValueError(
            f"expected --token-file where other machines can ask, at --host {options.host}; "
            f"--no-token serves everyone"
        )


def _require_guard(
    listener: socket.socket,
    options: argparse.Namespace,
    token: str | None,
    tls: ssl.SSLContext | None,
) -> None:
    """Refuse to serve other machines without a token, unless told to."""
    if ip_address(listener.getsockname()[0]).is_loopback:
        return
    require_token(options, token)
    if token and not tls:
        print(
            "warning: the token travels unencrypted from other machines; see --tls-certificate",
            file=sys.stderr,
        )

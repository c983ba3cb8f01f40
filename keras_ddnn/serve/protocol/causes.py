"""Why a cloud gave no answer: a short name that can be counted, and one line for a person."""

import json
import socket
import ssl
from collections.abc import Mapping
from http.client import BadStatusLine, HTTPException, IncompleteRead, UnknownProtocol
from typing import Literal, get_args

# "refused-400"      the service calls the request wrong (400)
# "refused-422"      the network has no finite logits for these features (422)
# "refused"          another status of 4xx
# "unauthorised"     the token is missing or wrong (401, 403)
# "not-found"        nothing answers at this path (404)
# "too-long"         the body is longer than the service takes (413)
# "wrong-model"      the service serves another artefact
# "redirected"       the URL is not that of the service (3xx)
# "certificate"      the certificate is not trusted, or is that of another host
# "not-http"         the port speaks something else: plain HTTP for HTTPS, the reverse, another TLS
# "no-address"       the name of the host is not known
# "connection"       nobody listens, or the connection ended before the answer did
# "time-out"         no answer within the deadline
# "busy"             the service asks to be left alone for a while (429, 503)
# "server-error"     the service failed (5xx)
# "unusable-answer"  an answer came, but not what was asked for
# "circuit-open"     not asked: the latest requests failed
# "no-time"          not asked: the deadline had passed on this side
# "no-cloud"         not asked: there is none
# "deferred"         not waited for: the sample is on disk, and sent in the background
# "not-kept"         the sample was to be sent in the background, and cannot be kept until then
# "over-budget"      not asked: as much was sent as may be sent in a minute
# These stay until somebody changes the URL, the token, the artefact or the service.
Lasting = Literal[
    "refused-400",
    "refused",
    "unauthorised",
    "not-found",
    "too-long",
    "wrong-model",
    "redirected",
    "certificate",
    "not-http",
]
Cause = Literal[
    Lasting,
    "refused-422",
    "no-address",
    "connection",
    "time-out",
    "busy",
    "server-error",
    "unusable-answer",
    "circuit-open",
    "no-time",
    "no-cloud",
    "deferred",
    "not-kept",
    "over-budget",
]
CAUSES: tuple[str, ...] = get_args(Cause)
LASTING = frozenset(get_args(Lasting))
DEFERRED: Cause = "deferred"  # the one that is no failure
NOT_ASKED = frozenset({"circuit-open", "no-time", "no-cloud"})  # nothing was sent

LONGEST_REASON = 200  # characters
LONGEST_JSON = 1 << 12  # bytes of a refusal that is read as JSON
WRONG_MODEL = "expected model "  # how the service begins where it serves another artefact

STATUSES: dict[int, Cause] = {
    400: "refused-400",
    401: "unauthorised",
    403: "unauthorised",
    404: "not-found",
    408: "time-out",
    413: "too-long",
    422: "refused-422",
    429: "busy",
    503: "busy",
}
CLASSES: dict[int, Cause] = {3: "redirected", 4: "refused", 5: "server-error"}
# Remedies, by OpenSSL's number of what is wrong with a certificate.
WRONG_CLOCK = "is the clock of this machine right?"
OWN_CA = "name it, or that of its CA, by --ca (ca= of EdgeRuntime)"
REMEDIES = {9: WRONG_CLOCK, 10: WRONG_CLOCK, 18: OWN_CA, 19: OWN_CA, 20: OWN_CA}


class Unanswered(Exception):
    """The cloud gave no answer that can be used, and why.

    Args:
        reason: For a person; what is not printable in it is replaced, and what is too long cut.
        cause: One of `CAUSES`.
        rest: For how many seconds the cloud asks to be left alone; None if it does not.

    Attributes:
        cause: One of `CAUSES`.
        lasting: Whether the cause does not go away by itself.
        rest: See above.
    """

    def __init__(self, reason: str, cause: Cause, rest: float | None = None):
        super().__init__(one_line(reason))
        self.cause = cause
        self.lasting = cause in LASTING
        self.rest = rest


class NotHTTP(HTTPException):
    """The other end speaks another protocol."""


def one_line(text: str) -> str:
    """Return a text without line breaks and what cannot be printed, cut where it is too long."""
    text = " ".join(text.split())
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> Unanswered:
    """Return what an HTTP answer other than 200 says.

    Args:
        status: HTTP status.
        headers: Headers of the answer, by their names in lower case.
        body: Body of the answer; the reason is its `{"error": reason}`, or else its beginning.
    """
    reason = _reason(body) or "no reason is given"
    cause = STATUSES.get(status) or CLASSES.get(status // 100, "unusable-answer")
    if status == 400 and reason.startswith(WRONG_MODEL):
        cause = "wrong-model"
    if cause == "redirected":
        reason = f"the service is not at this URL; it points to {headers.get('location')}"
    return Unanswered(
        f"HTTP {status}: {reason}", cause, _seconds(headers) if cause == "busy" else None
    )


def failure(error: Exception) -> Unanswered:
    """Return what an exception of a socket, TLS, `http.client` or a reader of answers says."""
    reason = f"{type(error).__name__}: {error}"
    match error:
        case ssl.SSLCertVerificationError():
            remedy = REMEDIES.get(error.verify_code)
            reason = f"the certificate is refused: {error.verify_message}"
            return Unanswered(f"{reason}; {remedy}" if remedy else reason, "certificate")
        case socket.gaierror():
            return Unanswered(reason, "no-address")
        case TimeoutError():
            return Unanswered(str(error) or "no answer within the deadline", "time-out")
        # A connection that ends before the status line is a BadStatusLine too.
        case OSError() | IncompleteRead():
            return Unanswered(reason, "connection")
        case BadStatusLine() | UnknownProtocol() | NotHTTP():
            return Unanswered(reason, "not-http")
    return Unanswered(reason, "unusable-answer")


def _reason(body: bytes) -> str:
    if len(body) <= LONGEST_JSON:
        try:
            match json.loads(body):
                case {"error": str(reason)}:
                    return reason
        except (ValueError, RecursionError):
            pass
    return body[:LONGEST_JSON].decode(errors="replace")


def _seconds(headers: Mapping[str, str]) -> float | None:
    """Return the `Retry-After` of an answer; None for a date, which needs two clocks that agree."""
    text = headers.get("retry-after", "").strip()
    if not (text.isascii() and text.isdigit()):
        return None
    return float(text)

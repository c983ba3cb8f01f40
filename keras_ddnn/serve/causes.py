"""Why a cloud gave no answer: a short name that can be counted, and one line for a person."""

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
# "not-http"         the port speaks something else: plain HTTP for HTTPS, the reverse, or neither
# "no-address"       the name of the host is not known
# "connection"       nobody listens, or the connection ended before the answer did
# "time-out"         no answer within the deadline
# "busy"             the service asks to be left alone for a while (429, 503)
# "server-error"     the service failed (5xx)
# "unusable-answer"  an answer came, but not what was asked for
# "circuit-open"     not asked: the latest requests failed
# "no-time"          not asked: the deadline had passed on this side
# "no-cloud"         not asked: there is none
Cause = Literal[
    "refused-400",
    "refused-422",
    "refused",
    "unauthorised",
    "not-found",
    "too-long",
    "wrong-model",
    "redirected",
    "certificate",
    "not-http",
    "no-address",
    "connection",
    "time-out",
    "busy",
    "server-error",
    "unusable-answer",
    "circuit-open",
    "no-time",
    "no-cloud",
]
CAUSES: tuple[str, ...] = get_args(Cause)
# These stay until somebody changes the URL, the token, the artefact or the service.
LASTING = frozenset(
    {
        "refused-400",
        "refused",
        "unauthorised",
        "not-found",
        "too-long",
        "wrong-model",
        "redirected",
        "certificate",
        "not-http",
    }
)


class Unanswered(Exception):
    """The cloud gave no answer that can be used, and why.

    Attributes:
        cause: One of `CAUSES`.
        lasting: Whether the cause does not go away by itself.
    """

    def __init__(self, reason: str, cause: Cause):
        super().__init__(reason)
        self.cause = cause
        self.lasting = cause in LASTING

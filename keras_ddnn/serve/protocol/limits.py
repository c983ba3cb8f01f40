"""Limits that both machines know: what a cloud takes unless told otherwise, its devices keep to."""

MAX_BYTES = 4 << 20  # of a request's body
MAX_SAMPLES = 256  # of a request
MAX_ANSWERED_LOCALLY = 10**9  # samples a request tells of
MAX_TIMEOUT = 10**12  # microseconds that a request tells of

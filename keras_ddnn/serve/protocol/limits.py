"""Limits that both machines know: what a cloud takes unless told otherwise, its devices keep to."""

import re

MAX_BYTES = 4 << 20  # of a request's body
MAX_SAMPLES = 256  # of a request
MAX_ANSWERED_LOCALLY = 10**9  # samples a request tells of
MAX_TIMEOUT = 10**12  # microseconds that a request tells of
# Of a request whose samples the cloud is to keep: a random session, and a number that grows in it.
KEEP_ID = re.compile(r"([0-9a-f]{16})-(\d{1,12})", re.ASCII)
LONGEST_KEEP_ID = f"{'f' * 16}-{'9' * 12}"

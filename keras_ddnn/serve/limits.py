"""Limits that both machines know."""

MAX_BYTES = 4 << 20  # of a request's body

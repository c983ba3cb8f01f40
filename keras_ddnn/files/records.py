"""Frozen records of options as plain JSON, and what an address names of them."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

# Default of a field that `__post_init__` fills: whoever reads it finds its type, and never None.
LEFT_OUT: Any = None


def as_json(config) -> dict:
    """Return all fields of a config dataclass as plain JSON types, fit for reading back."""
    return {name: _plain(value) for name, value in asdict(config).items()}


def differences(kind: type, content: Mapping, **former: Any) -> dict:
    """Return what differs from the defaults of a config dataclass: the content of an address.

    What was kept before a field existed is found as long as the field has its default. In turn a
    default means something as long as it is never changed: who changes one raises `VERSION` of
    `tune.cache`.

    Args:
        kind: The dataclass.
        content: Its fields, or some of them, as plain JSON; see `as_json`.
        **former: Defaults that stand for those of today.
    """
    usual = {field.name: _plain(field.default) for field in fields(kind)} | former
    return {name: v for name, v in content.items() if name not in usual or v != usual[name]}


def fill(record: Any, **values: Any) -> None:
    """Set those fields of a frozen dataclass that were left out, whose default is `LEFT_OUT`."""
    for name, value in values.items():
        if getattr(record, name) is None:
            object.__setattr__(record, name, value)


def _plain(value):
    return [*map(_plain, value)] if isinstance(value, tuple) else value

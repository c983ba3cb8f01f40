"""Shapes of plain JSON: what a value must be, written down as a table and checked in one pass.

A shape is a function of a path and a value. It raises ValueError in one line, which names the path,
what was expected and what was received.
"""

import math
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from reprlib import Repr
from typing import Any, NoReturn, TypeGuard

Shape = Callable[[str, object], None]

LONGEST = 1 << 12  # characters of a text
_repr = Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 60


def refuse(path: str, expected: str, received: object) -> NoReturn:
    """Raise the one-line error of a value that is not of its shape."""
    raise ValueError(f"{path}: expected {expected}; received {short(received)}")


def short(value: object) -> str:
    """Return a value as text of a line, however long or deep it is."""
    return _repr.repr(value)


def number(
    low: float = -math.inf, high: float = math.inf, *, above: bool = False, nan: bool = False
) -> Shape:
    """Return the shape of a number in [low, high].

    Args:
        low, high: The range; a range of ±inf admits ±inf.
        above: Whether `low` itself is refused.
        nan: Whether NaN is admitted.
    """
    bounded = f" in {'(' if above else '['}{low:g}, {high:g}]" if low > -math.inf else ""
    said = f"a number{bounded}{'' if nan else ', not NaN'}"

    def check(path: str, value: object) -> None:
        fits = (
            (isinstance(value, float) or _is_integer(value))
            # A comparison with NaN is false.
            and (low < value if above else low <= value)
            and value <= high
            # An integer may be too large for a float.
            and (isinstance(value, float) or abs(value) < 1 << 63)
        )
        if not fits and not (nan and value != value):
            refuse(path, said, value)

    return check


def integer(low: int, high: int) -> Shape:
    """Return the shape of an integer in low..high."""

    def check(path: str, value: object) -> None:
        if not _is_integer(value) or not low <= value <= high:
            refuse(path, f"an integer in {low}..{high}", value)

    return check


def boolean(path: str, value: object) -> None:
    """Admit true and false."""
    if not isinstance(value, bool):
        refuse(path, "true or false", value)


def text(path: str, value: object) -> None:
    """Admit text of at most `LONGEST` characters that UTF-8 can encode."""
    if not isinstance(value, str) or len(value) > LONGEST:
        refuse(path, f"text of at most {LONGEST} characters", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        refuse(path, "text that UTF-8 can encode", value)


def one_of(*choices: object) -> Shape:
    """Return the shape of one of a few texts or numbers."""

    def check(path: str, value: object) -> None:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            refuse(path, f"one of {', '.join(map(str, choices))}", value)

    return check


def either(expected: str, *shapes: Shape) -> Shape:
    """Return the shape of what has any of several shapes; `expected` says which, in words."""

    def check(path: str, value: object) -> None:
        for shape in shapes:
            with suppress(ValueError):
                shape(path, value)
                return
        refuse(path, expected, value)

    return check


def nullable(shape: Shape) -> Shape:
    """Return the shape of null, or of what has a shape."""

    def check(path: str, value: object) -> None:
        if value is not None:
            shape(path, value)

    return check


def sequence(shape: Shape, least: int = 0, most: int = 1000) -> Shape:
    """Return the shape of a list of `least` to `most` items of one shape."""
    count = str(least) if least == most else f"{least}..{most}"

    def check(path: str, value: object) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            received = f"{len(value)} items" if isinstance(value, list) else value
            refuse(path, f"a list of {count} items", received)
        for k, item in enumerate(value):
            shape(f"{path}[{k}]", item)

    return check


def mapping(shape: Shape, most: int = 1000, *, keys: Shape = text) -> Shape:
    """Return the shape of an object of at most `most` values of one shape, with keys of one."""

    def check(path: str, value: object) -> None:
        items = _object(path, value)
        if len(items) > most:
            refuse(path, f"at most {most} fields", f"{len(items)} fields")
        for name, item in items.items():
            keys(f"{path}, a key", name)
            shape(f"{path}.{name}", item)

    return check


def record(fields: Mapping[str, Shape], *, optional: Collection[str] = ()) -> Shape:
    """Return the shape of an object of these fields and no others.

    Args:
        fields: Name → shape.
        optional: Names of fields that may be absent.
    """

    def check(path: str, value: object) -> None:
        received = _object(path, value)
        within = f"{path}." if path else ""
        for name in received:
            if name not in fields:
                known = f"only {', '.join(fields)}" if fields else "no further fields"
                refuse(path or "the fields", known, name)
        for name, shape in fields.items():
            if name in received:
                shape(f"{within}{name}", received[name])
            elif name not in optional:
                raise ValueError(f"{within}{name}: expected this field; received none")

    return check


def variants(key: str, rows: Mapping[str, Shape]) -> Shape:
    """Return the shape of an object whose other fields depend on the text in one field."""

    def check(path: str, value: object) -> None:
        others = dict(_object(path, value))
        kind = others.pop(key, None)
        one_of(*rows)(f"{path}.{key}", kind)
        rows[kind](path, others)

    return check


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _object(path: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        refuse(path or "the content", "an object with named fields", value)
    return value

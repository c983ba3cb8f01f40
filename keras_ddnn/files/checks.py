"""Checks of arguments, whose errors name what was expected and what was received."""

from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Literal, TypeGuard

# Pairs of a label, as the user has it, and what its samples count; other classes count 1.
ClassWeight = Literal["balanced"] | tuple[tuple[int | str, float], ...] | None


def expect(condition, subject, expected, received) -> None:
    """Raise ValueError, "subject: expected …, received …", unless the condition holds."""
    if not condition:
        raise ValueError(f"{subject}: expected {expected}, received {received}")


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a real number of any library, NaN included."""
    return isinstance(value, Real)


def is_integer(value: object) -> TypeGuard[int]:
    """Return whether a value is an integer of any library; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _plain(value: object) -> object:
    """Return a number of NumPy as Python's, which shows no type; anything else as it is."""
    return value.item() if is_number(value) and hasattr(value, "item") else value


def require_choice(what: str, name, known) -> None:
    """Raise ValueError, listing the known names, unless `name` is one of them."""
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(map(str, known))}")


def require_fraction(what: str, value) -> None:
    """Raise ValueError unless `value` is a number in [0, 1]."""
    # A comparison with NaN is false, so NaN is refused too.
    if not is_number(value) or not 0.0 <= value <= 1.0:
        raise ValueError(f"{what} must lie in [0, 1]; received {_plain(value)!r}")


def require_probability(**values) -> None:
    """Raise ValueError unless every keyword's value is a number in (0, 1)."""
    for what, value in values.items():
        if not is_number(value) or not 0.0 < value < 1.0:
            raise ValueError(f"{what} must lie in (0, 1); received {_plain(value)!r}")


def require_positive(**values) -> None:
    """Raise ValueError unless every keyword's value is a finite number above zero."""
    for what, value in values.items():
        if not is_number(value) or not 0 < value < float("inf"):
            raise ValueError(f"{what} must be positive; received {_plain(value)!r}")


def require_count(**values) -> None:
    """Raise ValueError unless every keyword's value is an integer above zero."""
    for what, value in values.items():
        if not is_integer(value) or value < 1:
            raise ValueError(f"{what} must be a positive integer; received {_plain(value)!r}")


def as_counts(what: str, values) -> tuple[int, ...]:
    """Return several integers as a tuple; raise ValueError unless they are, each above zero."""
    several = isinstance(values, Iterable) and not isinstance(values, str)
    expect(several, what, "a tuple of positive integers", repr(values))
    counts = tuple(values)  # an iterator can be read but once
    for count in counts:
        require_count(**{what: count})
    return counts


def require_switch(**values) -> None:
    """Raise ValueError unless every keyword's value is True or False, or equals one of them."""
    for what, value in values.items():
        if value not in (True, False):
            raise ValueError(f"{what} must be True or False; received {value!r}")


def require_seed(what: str, value) -> None:
    """Raise ValueError unless `value` is an integer that every library takes for a seed."""
    if not is_integer(value) or not 0 <= value < 2**32:
        raise ValueError(f"{what} must be an integer in 0..2**32-1; received {_plain(value)!r}")


def require_inputs(inputs, shape, dtype: str = "uint8") -> None:
    """Raise ValueError unless the array holds inputs (n, *shape) of a type, n at least 1.

    uint8 inputs are called images.
    """
    if inputs.shape[1:] != tuple(shape) or inputs.dtype != dtype or not len(inputs):
        kind = "images" if dtype == "uint8" else "inputs"
        raise ValueError(
            f"expected {dtype} {kind} of shape (n, {', '.join(map(str, shape))}), n at least 1; "
            f"received {inputs.dtype} of shape {inputs.shape}"
        )


def require_utf8(what: str, text: str) -> None:
    """Raise ValueError unless a name can be written to a report: not every file name can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{what} must be UTF-8, as reports are; received {text!r}: rename it"
        ) from None


def class_weight_pairs(given: ClassWeight | Mapping[int | str, float]) -> ClassWeight:
    """Return weights of classes as pairs in the order of their labels: equal ones hash alike.

    Raises:
        ValueError: They are neither None, "balanced" nor labels with weights from 0 on.
    """
    if given is None or (isinstance(given, str) and given == "balanced"):
        return given
    try:
        # NumPy has kinds of its own.
        plain = [(getattr(k, "tolist", lambda k=k: k)(), w) for k, w in dict(given).items()]
        pairs = tuple(sorted((label, float(weight)) for label, weight in plain))
    except (TypeError, ValueError):
        pairs = ()
    known = all(isinstance(label, int | str) and type(label) is not bool for label, _ in pairs)
    if not pairs or not known or not all(0 <= weight < float("inf") for _, weight in pairs):
        raise ValueError(
            'class_weight must be "balanced" or {label: weight}, labels integers or strings, '
            f"weights from 0 on; received {given!r}"
        )
    return pairs

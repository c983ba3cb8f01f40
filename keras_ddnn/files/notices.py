"""What a command says: notices and tables to people, its result to whoever asks, scripts included.

A command prints for people as it likes. The options --quiet and --json, which are the same for all,
decide here where that goes, and in which form its result comes after it.
"""

import argparse
import io
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

from keras_ddnn.files.checks import expect, require_count, require_positive

if TYPE_CHECKING:
    from tqdm import tqdm

Value = TypeVar("Value")
log = logging.getLogger("keras_ddnn.data")
# `extra` of a record that answers what a person has just done: it is shown each time.
EACH_TIME = {"each_time": True}


class _StandardError(logging.Handler):
    """Prints notices where the program has set up no logging of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            # Looked up only now, so that a redirected stream gets its lines.
            print(f"note: {record.getMessage()}", file=sys.stderr)


log.addHandler(_StandardError())
if log.level == logging.NOTSET:
    log.setLevel(logging.INFO)


def notice(text: str) -> None:
    """Tell the user, in one line, of a choice that nobody made explicitly.

    It is a record of level INFO of the logger "keras_ddnn.data". A program that sets up logging
    gets it there; any other prints "note: TEXT" to standard error.
    """
    log.info("%s", " ".join(text.splitlines()))


def progress_bar(**options: Any) -> "tqdm":
    """Return a bar of tqdm on standard error: on a terminal, and where notices are shown."""
    from tqdm import tqdm

    return tqdm(disable=None if log.isEnabledFor(logging.INFO) else True, **options)


@dataclass(frozen=True)
class Form:
    """How a command says things.

    Attributes:
        people: Returns the stream of what people read, such as tables and progress.
        unlogged: The highest level of records that nobody gets.
        is_json: Whether results and events are JSON, one object a line of standard output.
    """

    people: Callable[[], TextIO]
    unlogged: int = logging.NOTSET
    is_json: bool = False


class _Nowhere(io.StringIO):
    def write(self, text: str) -> int:
        return len(text)


FORMS = {
    "text": Form(lambda: sys.stdout),
    "quiet": Form(_Nowhere, unlogged=logging.INFO),
    "json": Form(lambda: sys.stderr, is_json=True),
}
_form, _stdout = FORMS["text"], None  # of the command that runs; None is today's standard output


def of_option(expected: str) -> Callable[[Callable[[str], Value]], Callable[[str], Value]]:
    """Return a decorator for what reads an option: its ValueError becomes what is expected.

    The parser says it beside the name of the option, as the user has typed it.
    """

    def decorated(read: Callable[[str], Value]) -> Callable[[str], Value]:
        @wraps(read)
        def checked(text: str) -> Value:
            try:
                return read(text)
            except ValueError:
                told = f"expected {expected}; received {text!r}"
                raise argparse.ArgumentTypeError(told) from None

        return checked

    return decorated


def option_type(
    expected: str, read: Callable[[str], Value], require: Callable[[Value], object]
) -> Callable[[str], Value]:
    """Return what reads an option, a `type` of argparse.

    Args:
        expected: What the option must be, for the message.
        read: Text → value.
        require: Raises ValueError for a value that is not as expected.
    """

    @of_option(expected)
    def checked(text: str) -> Value:
        value = read(text)
        require(value)
        return value

    return checked


def _require_not_negative(number: float) -> None:
    expect(0 <= number < math.inf, "an option", "a number from 0 on", number)


positive = option_type("a number above 0", float, lambda x: require_positive(number=x))
not_negative = option_type("a number from 0 on", float, _require_not_negative)
count = option_type("an integer above 0", int, lambda x: require_count(number=x))


def require_beside(
    options: argparse.Namespace, option: str, other: str, *, without: bool = False
) -> None:
    """Raise ValueError if an option is given that needs another one, or does not go with it.

    Args:
        options: Of a command; None, False and an empty text are options that are not given.
        option, other: As "--keep-bytes" and "--keep".
        without: Whether `other` must not be given.
    """
    given, beside = (getattr(options, o[2:].replace("-", "_")) for o in (option, other))
    if given not in (None, False, "") and (beside not in (None, False, "")) is without:
        expected = f"expected {'no ' if without else ''}{other} beside {option}"
        raise ValueError(f"{expected}; received {'both' if without else f'{option} alone'}")


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all errors of a command are."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.register("type", int, of_option("an integer")(int))
        self.register("type", float, of_option("a number")(float))

    def error(self, message: str) -> NoReturn:
        """End the command with exit code 2."""
        tell_error(f"{message}: see --help")
        self.exit(2)


def add_forms(parser: argparse.ArgumentParser) -> None:
    """Add the options that `said_as` reads."""
    forms = parser.add_mutually_exclusive_group()
    for name, what in (
        ("quiet", "print errors, warnings and the result alone"),
        ("json", "print the result as one JSON object, all else on standard error"),
    ):
        forms.add_argument(f"--{name}", dest="form", action="store_const", const=name, help=what)
    parser.set_defaults(form="text")


def form_flags(options: argparse.Namespace) -> list[str]:
    """Return the options of `add_forms` for a command that this one starts."""
    return [] if options.form == "text" else [f"--{options.form}"]


@contextmanager
def said_as(options: argparse.Namespace) -> Iterator[None]:
    """Let all that is printed inside go where the options of `add_forms` want it."""
    global _form, _stdout
    before, unlogged = (_form, _stdout), logging.root.manager.disable
    _form, _stdout = FORMS[options.form], sys.stdout
    try:
        logging.disable(max(unlogged, _form.unlogged))
        with redirect_stdout(_form.people()):
            yield
    finally:
        logging.disable(unlogged)
        _form, _stdout = before


def standard_output() -> TextIO:
    """Return where results go: what a command prints inside `said_as` may go elsewhere."""
    return _stdout or sys.stdout


def beside_result() -> TextIO:
    """Return where people read what is no result, of a command that prints its result itself."""
    people = _form.people()
    return people if isinstance(people, _Nowhere) else sys.stderr


def tell_result(line: str, content: Mapping[str, Any], stream: TextIO | None = None) -> None:
    """Say what a command has found: on standard output, whatever the form.

    Args:
        line: One line for people.
        content: The same and more for scripts: mappings, sequences, texts and numbers, those of
            NumPy included; what is not finite becomes null.
        stream: For the line, where standard output holds something else.
    """
    _say(line, content, stream or standard_output())


def tell_error(error: object) -> None:
    """Say on standard error what has failed, in one line."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)


def tell_event(name: str, line: str, **content: Any) -> None:
    """Say what has happened in a service: a line on standard error, or JSON on standard output.

    Args:
        name: Of the event, the field "event" of the JSON.
        line: One line for people.
        content: As for `tell_result`.
    """
    _say(line, {"event": name, **content}, sys.stderr)


def _say(line: str, content: Mapping[str, Any], stream: TextIO) -> None:
    if _form.is_json:
        line, stream = json.dumps(_plain(content), ensure_ascii=False), standard_output()
    print(line, file=stream, flush=True)


def _plain(value: Any) -> Any:
    """Return what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [*map(_plain, value)]
    if hasattr(value, "tolist"):  # an array or a number of NumPy
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)

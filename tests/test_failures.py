"""A command that fails says why in one line, and each reason once."""

import os
import signal

import pytest

from tune.failures import grouped, reason_of, run_command


def test_each_reason_is_said_once_the_most_frequent_first():
    assert grouped(["a", "b", "b"]) == "b (2×); a"
    assert grouped(f"{i}" for i in range(7)) == "0; 1; 2; 3; 4; and 2 other reasons"


def test_a_reason_is_that_of_the_worker_without_its_stack():
    error = RuntimeError("Traceback of Ray\n many lines")
    error.cause = MemoryError("7 GiB\n more")
    assert reason_of(error) == "MemoryError: 7 GiB"
    assert reason_of(AssertionError()) == "AssertionError: AssertionError"


def test_an_error_of_a_worker_ends_a_command_as_one_of_its_own_would(capsys):
    def work():
        error = RuntimeError("Traceback of Ray\n many lines")
        error.cause = ValueError("bad")
        raise error

    assert run_command(work, "run it again") == 2
    assert capsys.readouterr().err == "error: bad\n"


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "hung up"),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
def test_a_signal_ends_a_command_after_its_clean_up(capsys, number, code, word):
    cleaned = []

    def work():
        try:
            os.kill(os.getpid(), number)
        finally:
            if number != signal.SIGINT:
                os.kill(os.getpid(), number)  # a second one does not cut it short
            cleaned.append(True)

    before = signal.getsignal(number)
    assert run_command(work, "run it again") == code
    assert capsys.readouterr().err == f"{word}: run it again\n"
    assert cleaned == [True]
    assert signal.getsignal(number) is before


def test_a_command_after_nohup_outlives_its_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_command(lambda: os.kill(os.getpid(), signal.SIGHUP), "run it again") == 0
    finally:
        signal.signal(signal.SIGHUP, before)

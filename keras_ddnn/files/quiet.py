"""TensorFlow, without the lines that it prints whatever happens: they hide ours, and no error."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LEVEL, OURS = "TF_CPP_MIN_LOG_LEVEL", "2"  # errors are shown
QUIET = ("2", "3")  # levels that admit no information, of which TensorFlow still prints some
# The converter prints this line of one of its steps whatever the level.
ALWAYS = r"fully_quantize: "
CHATTER = (
    rf"{ALWAYS}|I\d{{4}} |W\d{{4}} .*(tf_tfl_flatbuffer_helpers|flatbuffer_export)\.cc:"
    r"|WARNING: All log messages before absl::InitializeLog|To enable the following instructions: "
    r"|INFO: Created TensorFlow Lite "
    # It then takes other kernels for float16, which is no error.
    r"|E\d{4} .*\] oneDNN supports DT_HALF only on "
)
if not any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg"))):
    # That a machine without a GPU has none is no error, though TensorFlow calls it one.
    CHATTER += r"|E\d{4} .*cuda_platform\.cc:\d+\] failed call to cuInit: "
# A process of its own shows the other lines at once, also the last ones of a process that crashes.
FILTER = """
import re, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
chatter = re.compile(sys.argv[1].encode())
for line in sys.stdin.buffer:
    if not chatter.match(line):
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
"""


@contextmanager
def without_chatter() -> Iterator[None]:
    """Keep TensorFlow's informative lines from standard error, and its logging from the program's.

    All other lines are shown. A user who has set TF_CPP_MIN_LOG_LEVEL sees all that it admits.
    """
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        with _filtered(2, CHATTER if os.environ.get(LEVEL, OURS) in QUIET else ALWAYS):
            yield
    finally:
        # Some modules call functions of `logging` that set it up where nobody has.
        for handler in root.handlers[:]:
            if handler not in before:
                root.removeHandler(handler)


def import_tensorflow() -> None:
    """Import TensorFlow, which then is quieter: no warning that functions are traced again."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault(LEVEL, OURS)
    with without_chatter():
        import tensorflow as tf

        tf.config.list_physical_devices()  # what it says of them comes now, and not later
    tf.get_logger().addFilter(lambda record: "retracing" not in record.getMessage())


@contextmanager
def _filtered(number: int, chatter: str) -> Iterator[None]:
    """Keep lines that match `chatter` from a file descriptor of this process, by `FILTER`."""
    sys.stderr.flush()
    saved = os.dup(number)
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", FILTER, chatter],
        stdin=subprocess.PIPE,
        stdout=saved,
    ) as process:
        assert process.stdin  # a pipe was asked for
        os.dup2(process.stdin.fileno(), number)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, number)
            os.close(saved)
            process.stdin.close()  # the last end that writes: the filter ends

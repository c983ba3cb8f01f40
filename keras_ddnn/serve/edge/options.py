"""The options of a command line that make a runtime: its graph, its cloud, and whom it trusts."""

import argparse
from pathlib import Path
from typing import Any

from keras_ddnn.files.manifest import EDGE_GRAPHS
from keras_ddnn.files.notices import count, positive
from keras_ddnn.serve.edge.runtime import EdgeRuntime
from keras_ddnn.serve.protocol.limits import MAX_BYTES
from keras_ddnn.serve.protocol.token_file import read_token


def add_runtime_options(parser: argparse.ArgumentParser, of_cloud: str = "") -> None:
    """Add the options that `runtime_of` reads, but the artefact, `run`.

    Args:
        parser: Of a command.
        of_cloud: What the names of the options for the service's token and certificate begin with,
            where the command has such options of its own.
    """
    add = parser.add_argument
    add("--cloud", metavar="URL", help="the service; without, all is answered here")
    for name, what in (
        ("token-file", "a file with the service's token"),
        ("ca", "a PEM file; the service's certificate is signed by one of these"),
    ):
        stored = f"cloud_{name.replace('-', '_')}"
        add(f"--{of_cloud}{name}", dest=stored, metavar="FILE", type=Path, help=what)
    add("--deadline-ms", type=positive, default=250.0, help="for its answer (%(default)s)")
    add(
        "--max-bytes",
        type=count,
        default=MAX_BYTES,
        help="of a request body that the service takes (%(default)s)",
    )
    add("--graph", choices=EDGE_GRAPHS, default="float")
    add("--guard", action="store_true", help="hold the local fraction, and audit what that costs")
    add("--verify-key", type=Path, help="PEM file of whom the artefact must be signed by")


def runtime_of(options: argparse.Namespace, **further: Any) -> EdgeRuntime:
    """Return the runtime that options ask for.

    Args:
        options: Of `add_runtime_options`, with the artefact in `run`.
        further: Arguments of `EdgeRuntime` beside these.

    Raises:
        OSError: If a file cannot be read.
        ValueError: As `EdgeRuntime` does.
    """
    return EdgeRuntime(
        options.run,
        options.cloud,
        graph=options.graph,
        deadline_s=options.deadline_ms / 1000,
        token=options.cloud_token_file and read_token(options.cloud_token_file),
        ca=options.cloud_ca,
        guarded=options.guard,
        max_bytes=options.max_bytes,
        verify_key=options.verify_key,
        **further,
    )

"""The command line of `add_onnx`: `python -m keras_ddnn.onnx_export RUN`."""

import argparse
from collections.abc import Sequence

from keras_ddnn.files.notices import CommandParser, tell_error
from keras_ddnn.files.quiet import import_tensorflow


def main(arguments: Sequence[str] | None = None) -> int:
    """Add ONNX graphs to an artefact; return 0, or 2 after one line for what cannot be done."""
    options = _parser().parse_args(arguments)
    import_tensorflow()
    # Imported only now, so that --help answers at once.
    from keras_ddnn.deploy.onnx_graphs import add_onnx

    try:
        for path in add_onnx(options.run, options.sign):
            print(path)
    except (OSError, ValueError) as error:
        tell_error(error)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m keras_ddnn.onnx_export",
        description="Add the ONNX graphs of the device and of the cloud to an artefact, checked "
        "in ONNX Runtime. The artefact gets a new model id: give the new one to both machines.",
    )
    parser.add_argument("run", help="an artefact, or the output folder of a search")
    parser.add_argument("--sign", metavar="KEY", help="PEM file of the private key that signs it")
    return parser

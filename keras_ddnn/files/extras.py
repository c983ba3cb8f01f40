"""Which extra of the package brings a library, said in one line where the library is missing."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Library, as it is imported -> the smallest extra that brings it. See setup.cfg.
EXTRAS = {
    "scipy": "eval",
    "pandas": "eval",
    "sklearn": "eval",
    "tensorflow": "train",
    "keras": "train",
    "tensorflow_datasets": "train",
    "imblearn": "train",
    "tensorboard": "train",
    "ray": "search",
    "optuna": "search",
    "filelock": "search",
    "yaml": "search",
    "pyarrow": "eval",
    "ai_edge_litert": "edge",
    "rich": "train",
    "fastapi": "cloud",
    "uvicorn": "cloud",
    "starlette": "cloud",
    "prometheus_client": "edge",
    "matplotlib": "plots",
    "cryptography": "sign",
    "tf2onnx": "onnx",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "mlflow": "mlflow",
    "wandb": "wandb",
}


def remedy(error: ModuleNotFoundError) -> str | None:
    """Return which extra to install, in one line; None for a module that no extra brings."""
    library = (error.name or "").partition(".")[0]
    if library not in EXTRAS:
        return None
    return f"{library} is not installed: pip install 'keras_ddnn[{EXTRAS[library]}]'"


@contextmanager
def extras_named() -> Iterator[None]:
    """Let an import that fails for want of an extra name it.

    Raises:
        ModuleNotFoundError: With the remedy as its message.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if line := remedy(error):
            raise ModuleNotFoundError(line, name=error.name) from error
        raise


@contextmanager
def extras_of_a_command() -> Iterator[None]:
    """End a command in one line, exit code 2, where what it imports is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if line := remedy(error):
            print(f"error: {line}", file=sys.stderr)
            sys.exit(2)
        raise

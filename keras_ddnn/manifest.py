"""The manifest of an artefact: what it holds, with a hash of every file. Read without Keras."""

import json
from pathlib import Path, PurePosixPath

from keras_ddnn.atomic import write_json
from keras_ddnn.seal import damage, sha256, sha256_of_json

SCHEMA = 4
MANIFEST = "manifest.json"
EDGE_GRAPHS = {"float": "edge.tflite", "int8": "edge_int8.tflite"}  # see `export_edge`
CLOUD = "cloud"  # a folder; see `export_cloud`
SEAL = "seal"  # the key of the hash of all other keys


def write_manifest(folder, content: dict) -> None:
    """Write the manifest of a folder whose other files are complete.

    Args:
        folder: The artefact.
        content: Plain JSON; `schema`, the hash of each file and that of the manifest are added.

    Raises:
        OSError: If the folder cannot be written.
    """
    folder = Path(folder)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    hashes = {file.relative_to(folder).as_posix(): sha256(file) for file in files}
    hashes.pop(MANIFEST, None)
    content = content | {"schema": SCHEMA, "sha256": hashes}
    write_json(folder / MANIFEST, content | {SEAL: sha256_of_json(content)})


def read_manifest(folder) -> dict:
    """Read the manifest of an artefact, after verifying it and every file it names.

    Args:
        folder: The artefact.

    Returns:
        What `write_manifest` was given, with `schema` and `sha256`, relative path → hash.

    Raises:
        ValueError: If it cannot be read or is of another schema, or a file is missing, damaged or
            outside the folder.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{folder} holds no readable {MANIFEST}: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        received = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise ValueError(f"{path}: expected schema {SCHEMA}; received {received}")
    expected = manifest.pop(SEAL, None)
    if (received := sha256_of_json(manifest)) != expected:
        raise ValueError(f"{path} is damaged: expected SHA-256 {expected}; received {received}")
    for name, expected in manifest["sha256"].items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{path}: expected files inside the folder; received {name!r}")
        if wrong := damage(folder / name, expected):
            raise ValueError(wrong)
    return manifest


def model_id(folder) -> str:
    """Return the first 16 hex digits of the manifest's SHA-256, by which two machines can tell
    whether they serve the same artefact."""
    return sha256(Path(folder) / MANIFEST)[:16]


def artifact_of(run) -> Path:
    """Return the artefact of a run: its folder `artifact`, or the folder itself if it is one."""
    run = Path(run)
    return run if (run / MANIFEST).exists() else run / "artifact"

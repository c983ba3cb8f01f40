"""The manifest of an artefact: what it holds, with a hash of every file. Read without Keras.

The hashes prove that the artefact is as it was written: no worn-out disk, no half a copy, no edit
by hand. They do not prove who wrote it, for whoever writes a file can write its hash. A signature
does; see `keras_ddnn.files.signature`.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from keras_ddnn.files.atomic import replacing_file, write_json
from keras_ddnn.files.checksums import cut, damage, files_of, sha256, sha256_of_json
from keras_ddnn.files.fields.content import check_content
from keras_ddnn.files.shapes import short
from keras_ddnn.files.signature import Key, private_key, public_key, require_signature

SCHEMA = 6
OLDER = (4, 5)  # schemas that are read too
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"  # of the bytes of the manifest; optional
MAX_BYTES = 16 << 20  # of a manifest
MAX_DIGITS = 1000  # of an integer in it; Python itself refuses 4,300
AGAIN = ": copy the artefact again"
EDGE_GRAPHS = {"float": "edge.tflite", "int8": "edge_int8.tflite"}  # see `export_edge`
CLOUD = "cloud"  # a folder; see `export_cloud`
ONNX_GRAPHS = {"device": "device.onnx", "cloud": "cloud.onnx"}  # optional; see `add_onnx`
SEAL = "seal"  # the key of the hash of all other keys


def write_manifest(folder, content: dict, sign: Key | None = None) -> None:
    """Write the manifest of a folder whose other files are complete.

    Args:
        folder: The artefact.
        content: Plain JSON, as in `fields/content.py`; `schema`, the hash of each file and
            that of the manifest are added.
        sign: A private key, or the PEM file that holds it; the manifest's signature is written
            beside it.

    Raises:
        OSError: If the folder cannot be written.
        ValueError: If the content is none that `read_manifest` would take, or the key is no
            private Ed25519 key.
    """
    folder = Path(folder)
    key = None if sign is None else private_key(sign)
    files = files_of(folder)
    hashes = {name: sha256(files[name]) for name in files if name not in (MANIFEST, SIGNATURE)}
    # As it will be read: lists for tuples.
    content = json.loads(json.dumps(content | {"schema": SCHEMA, "sha256": hashes}))
    _check(content, folder / MANIFEST)
    if (size := len(json.dumps(content, indent=2))) > MAX_BYTES:
        raise ValueError(f"expected a manifest of at most {MAX_BYTES:,} bytes; received {size:,}")
    (folder / SIGNATURE).unlink(missing_ok=True)  # of an older manifest
    write_json(folder / MANIFEST, content | {SEAL: sha256_of_json(content)})
    if key is not None:
        _sign(folder, key)


def sign_artifact(folder, key: Key) -> None:
    """Sign an artefact where it is, in place of a signature that it has.

    Args:
        folder: The artefact, or the run that it belongs to.
        key: A private Ed25519 key, or the PEM file that holds it.

    Raises:
        OSError: If the key cannot be read or the folder cannot be written.
        ValueError: If the key is none, or the artefact is damaged, which nobody should sign.
    """
    key, folder = private_key(key), artifact_of(folder)
    read_manifest(folder)
    _sign(folder, key)


def read_manifest(folder, verify_key: Key | None = None) -> dict:
    """Read the manifest of an artefact, after verifying all of it and every file of the folder.

    Args:
        folder: The artefact.
        verify_key: A public key, or the PEM file that holds it. If given, the manifest must carry
            the signature of its private key: hashes tell of damage, a signature of origin.

    Returns:
        What `write_manifest` was given, with `schema` and `sha256`, relative path → hash. A
        manifest of an older schema is read as one of the present schema.

    Raises:
        OSError: If the file of the key cannot be read.
        ValueError: If it cannot be read, is of another schema, is not as the table of its fields
            says or lacks the signature; if a file is missing, damaged or not listed; or if there is
            a symbolic link.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    key = None if verify_key is None else public_key(verify_key)
    try:
        files = files_of(folder)
        text = _read(path)
        if key is not None:
            require_signature(text, folder / SIGNATURE, key)
    except OSError as error:
        raise ValueError(
            f"{folder} holds no readable {MANIFEST}: run a search first, or name its output folder "
            f"({error.strerror})"
        ) from error
    manifest, sealed, expected = _parse(text, path)
    schema = manifest.get("schema")
    if schema not in (*OLDER, SCHEMA):
        raise ValueError(f"{path}: expected schema {SCHEMA}; received {short(schema)}")
    if sealed != expected:
        raise ValueError(
            f"{path} is damaged: expected SHA-256 {_cut(expected)}; received {_cut(sealed)}{AGAIN}"
        )
    manifest = manifest if schema == SCHEMA else _from_older(manifest)
    _check(manifest, path)
    hashes = manifest["sha256"]
    if unlisted := sorted(files.keys() - hashes.keys() - {MANIFEST, SIGNATURE}):
        raise ValueError(
            f"{folder / unlisted[0]} is not listed in {MANIFEST}: delete it, or save the policy "
            "again"
        )
    for name, expected in hashes.items():
        if wrong := damage(folder / name, expected):
            raise ValueError(f"{wrong}{AGAIN}")
    return manifest


def require_listed(manifest: Mapping, folder, *names: str) -> None:
    """Raise ValueError unless a manifest lists files that a reader needs, and so has verified."""
    for name in names:
        if name not in manifest["sha256"]:
            raise ValueError(f"{Path(folder) / MANIFEST} does not list {name}, which it needs")


def inputs_name(dtype: str) -> str:
    """Return the name of the inputs of a device's graph, by their type: uint8 is an image."""
    return "images" if dtype == "uint8" else "inputs"


def model_id(folder) -> str:
    """Return the first 16 hex digits of the manifest's SHA-256, by which two machines can tell
    whether they serve the same artefact."""
    return sha256(Path(folder) / MANIFEST)[:16]


def artifact_of(run) -> Path:
    """Return the artefact of a run: its folder `artifact`, or the folder itself if it is one."""
    run = Path(run)
    return run if (run / MANIFEST).exists() else run / "artifact"


def hops_of(run) -> list[Path]:
    """Return the artefacts of a chain of tiers, its folders `0`, `1`, …; of a run, its one."""
    run = Path(run)
    hops: list[Path] = []
    while (run / str(len(hops)) / MANIFEST).exists():
        hops.append(run / str(len(hops)))
    return hops or [artifact_of(run)]


def require_next(manifest: Mapping, following: Mapping) -> None:
    """Raise ValueError unless an artefact reads what another sends, and answers the same.

    Args:
        manifest: Of the artefact whose device sends.
        following: Of the artefact whose device reads it.
    """
    sent, dtype = manifest["features"], manifest["features"]["dtype"]
    # Features travel as float16, and are computed with as float32.
    expected = {
        "input_shape": sent["shape"],
        "input_dtype": "float32" if dtype == "float16" else dtype,
        "task": manifest.get("task"),
        "class_names": manifest["class_names"],
        "class_values": manifest.get("class_values"),
    }
    for name, value in expected.items():
        if (received := following.get(name)) != value:
            raise ValueError(
                f"expected an artefact of the next two tiers, of {name} {short(value)}; received "
                f"one of {short(received)}: save all tiers together, by save_tiers"
            )


def _sign(folder: Path, key) -> None:
    with replacing_file(folder / SIGNATURE) as file:
        file.write(key.sign((folder / MANIFEST).read_bytes()))


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError(f"{path}: expected at most {MAX_BYTES:,} bytes; received more")
    return text


def _parse(text: bytes, path: Path) -> tuple[dict, str, object]:
    """Return a manifest, the hash of what it says and the one that it claims."""
    try:
        manifest = json.loads(text, parse_int=_integer)
        if not isinstance(manifest, dict):
            raise ValueError(f"expected an object with named fields; received {text[:20]!r}")
        claimed = manifest.pop(SEAL, None)
        return manifest, sha256_of_json(manifest), claimed
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.parent} holds no readable {MANIFEST}: {error}") from error


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        expected = f"expected integers of at most {MAX_DIGITS:,} digits"
        raise ValueError(f"{expected}; received one of {len(digits):,}")
    return int(digits)


def _cut(digest: object) -> str:
    return cut(digest) if isinstance(digest, str) else short(digest)


def _check(content: Mapping, path: Path) -> None:
    try:
        check_content(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _from_older(manifest: Mapping) -> dict:
    """Return a manifest of schema 4 or 5 as one of schema 6: of the network of the paper on images.

    What the first artefacts of schema 4 did not say yet is filled in where it has its place. A
    disagreement that nobody measured is 1, at which no audit raises an alarm.
    """
    manifest = dict(manifest) | {"schema": SCHEMA, "network": None, "input_dtype": "uint8"}
    features, calibration = manifest.get("features"), manifest.get("calibration")
    outcomes = list(manifest["plan"]) if isinstance(manifest.get("plan"), list) else []
    if isinstance(features, dict):
        features |= {"dtype": "float16", "are_inputs": False}
        features.setdefault("lossless", False)
        if isinstance(features.get("quantisation"), dict):
            features["quantisation"].setdefault("bits", 8)
    if isinstance(calibration, dict) and isinstance(calibration.get("numbers"), dict):
        outcomes.append(calibration["numbers"].get("validation"))
    for outcome in outcomes:
        if isinstance(outcome, dict):
            outcome.setdefault("disagreement", 1.0)
    return manifest

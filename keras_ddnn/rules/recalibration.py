"""A recalibration: what an artefact decides by, chosen anew on later samples, in one small file.

It lies beside the artefact, which stays as it was written: `artifact.recalibration.json` beside
`artifact/`. Its hash tells of damage, the hash of the manifest in it which artefact it belongs to,
and a signature whose it is. It does not tell which of two is the later one: an earlier signed file
of the same artefact is taken up, too.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_ddnn.files.atomic import write_json
from keras_ddnn.files.checksums import cut, sha256, sha256_of_json
from keras_ddnn.files.fields.content import check_content
from keras_ddnn.files.manifest import MANIFEST, MAX_BYTES
from keras_ddnn.files.shapes import mapping, one_of, record, text
from keras_ddnn.files.signature import Key, private_key, public_key, require_signed

SCHEMA = 1
ENDING = ".recalibration.json"
# The fields of a manifest that a recalibration replaces.
FIELDS = ("score_threshold", "calibration", "plan", "temperatures", "dataset")


def _any(path: str, value: object) -> None:
    """Admit anything: what is replaced is checked as a part of the manifest."""


FILE = record(
    {
        "content": record(
            {
                "schema": one_of(SCHEMA),
                "artifact": text,
                "replaced": mapping(_any, len(FIELDS), keys=one_of(*FIELDS)),
            }
        ),
        "sha256": text,
        "signature": text,
    },
    optional=("signature",),
)


def path_beside(folder: str | Path) -> Path:
    """Return where the recalibration of an artefact is, if there is one."""
    folder = Path(folder).absolute()
    return folder.with_name(f"{folder.name}{ENDING}")


def write_recalibration(
    folder: str | Path,
    manifest: Mapping[str, Any],
    replaced: Mapping[str, Any],
    sign: Key | None = None,
) -> Path:
    """Write a recalibration beside an artefact, whole or not at all; an older one is replaced.

    Args:
        folder: The artefact.
        manifest: What `read_manifest` returns of it.
        replaced: Of `FIELDS`, those that get another value, as plain JSON.
        sign: A private Ed25519 key, or the PEM file that holds it.

    Returns:
        The file.

    Raises:
        OSError: If it cannot be written.
        ValueError: If the manifest would not be one with these fields, or the key is none.
    """
    key, path = None if sign is None else private_key(sign), path_beside(folder)
    replaced = json.loads(json.dumps(replaced))  # as it will be read: lists for tuples
    content = {"schema": SCHEMA, "artifact": sha256(Path(folder) / MANIFEST), "replaced": replaced}
    file = {"content": content, "sha256": sha256_of_json(content)}
    if key is not None:
        file["signature"] = key.sign(_signed(content)).hex()
    FILE("", file)
    check_content({**manifest, **replaced})
    write_json(path, file)
    return path


def read_recalibrated(
    folder: str | Path, manifest: Mapping[str, Any], verify_key: Key | None = None
) -> dict[str, Any]:
    """Return the manifest of an artefact with what its recalibration replaces.

    Args:
        folder: The artefact.
        manifest: What `read_manifest` returns of it.
        verify_key: The public key that the recalibration must be signed by; see `read_manifest`.

    Returns:
        The manifest itself, if there is no recalibration.

    Raises:
        OSError: If a file cannot be read.
        ValueError: In one line, if the recalibration is damaged, belongs to another artefact, lacks
            the signature, or does not suit the manifest.
    """
    key, path = None if verify_key is None else public_key(verify_key), path_beside(folder)
    try:
        with open(path, "rb") as file:
            read = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return dict(manifest)
    try:
        if len(read) > MAX_BYTES:
            raise ValueError(f"expected at most {MAX_BYTES:,} bytes; received more")
        held = json.loads(read)
        FILE("", held)
        content, expected = held["content"], sha256_of_json(held["content"])
        if held["sha256"] != expected:
            found = f"expected SHA-256 {cut(expected)}; received {cut(held['sha256'])}"
            raise ValueError(f"it is damaged: {found}: copy it again")
        if key is not None:
            _require_signature(held, path, key)
        if (own := sha256(Path(folder) / MANIFEST)) != content["artifact"]:
            raise ValueError(
                f"expected a recalibration of the artefact {cut(own)}; received one of "
                f"{cut(content['artifact'])}: recalibrate this artefact, or delete the file"
            )
        recalibrated = {**manifest, **content["replaced"]}
        check_content(recalibrated)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
    return recalibrated


def _signed(content: Mapping[str, Any]) -> bytes:
    """Return the bytes that are signed, which are no manifest's: one text for each content."""
    return f"{ENDING} {sha256_of_json(content)}".encode()


def _require_signature(held: Mapping[str, Any], path: Path, key: Any) -> None:
    if "signature" not in held:
        raise ValueError(
            "expected a signature; received none: sign it by keras-ddnn recalibrate --sign"
        )
    try:
        signature = bytes.fromhex(held["signature"])
    except ValueError:
        raise ValueError("expected a signature in hex; received other text") from None
    require_signed(_signed(held["content"]), signature, path, key)

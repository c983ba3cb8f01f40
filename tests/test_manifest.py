import json

import pytest
from conftest import flip_a_bit

from keras_ddnn.manifest import SCHEMA, model_id, read_manifest, write_manifest
from keras_ddnn.seal import sha256_of_json


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cloud").mkdir()
    for name in ("weights", "cloud/graph"):
        (tmp_path / name).write_bytes(name.encode() * 10)
    write_manifest(tmp_path, {"class_names": ["a", "b"]})
    return tmp_path


def rewrite(folder, change):
    """Write a manifest that someone has made up, with a hash that fits it."""
    manifest = json.loads((folder / "manifest.json").read_text()) | change
    manifest.pop("seal")
    manifest["seal"] = sha256_of_json(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_manifest_says_what_it_was_told_and_lists_every_file(folder):
    manifest = read_manifest(folder)
    assert manifest["class_names"] == ["a", "b"]
    assert set(manifest["sha256"]) == {"weights", "cloud/graph"}


@pytest.mark.parametrize("name", ["weights", "cloud/graph"])
def test_a_damaged_or_missing_file_is_named(folder, name):
    flip_a_bit(folder / name)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        read_manifest(folder)
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        read_manifest(folder)


def test_no_bit_of_the_manifest_can_flip_unnoticed(folder):
    path = folder / "manifest.json"
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in range(8):
            path.write_bytes(
                content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]
            )
            with pytest.raises(ValueError, match=r"manifest\.json"):
                read_manifest(folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "cloud/../../outside"])
def test_a_file_outside_the_folder_is_refused(folder, name):
    rewrite(folder, {"sha256": {name: "0"}})
    with pytest.raises(ValueError, match="expected files inside the folder; received"):
        read_manifest(folder)


def test_another_schema_is_refused(folder):
    rewrite(folder, {"schema": 99})
    with pytest.raises(ValueError, match=f"expected schema {SCHEMA}; received 99"):
        read_manifest(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"{", b"[" * 100_000])
def test_what_is_no_manifest_is_refused(folder, content):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        read_manifest(folder)


def test_the_model_id_changes_with_any_file(folder):
    before = model_id(folder)
    assert len(before) == 16
    (folder / "weights").write_bytes(b"retrained")
    write_manifest(folder, {"class_names": ["a", "b"]})
    assert model_id(folder) != before

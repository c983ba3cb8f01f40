"""A signature tells whose artefact it is, which hashes cannot."""

import shutil
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from toy_manifest import CONTENT, forge

from keras_ddnn.files.manifest import read_manifest, sign_artifact, write_manifest

PEM = serialization.Encoding.PEM


def write_pair(folder, name, private=None, encryption=None):
    """Write the two PEM files of a new key, as OpenSSL does."""
    private = private or ed25519.Ed25519PrivateKey.generate()
    secret = private.private_bytes(
        PEM,
        serialization.PrivateFormat.PKCS8,
        encryption or serialization.NoEncryption(),
    )
    public = private.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    files = folder / f"{name}.pem", folder / f"{name}.public.pem"
    for file, content in zip(files, (secret, public)):
        file.write_bytes(content)
    return files


@pytest.fixture
def keys(tmp_path):
    return write_pair(tmp_path, "ours")


@pytest.fixture
def folder(tmp_path, keys):
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "weights").write_bytes(b"weights")
    write_manifest(folder, CONTENT, keys[0])
    return folder


def test_a_signed_artefact_is_read_with_the_key_and_without(folder, keys):
    assert read_manifest(folder, keys[1]) == read_manifest(folder)


def test_an_artefact_is_signed_where_it_is_and_nothing_else_changes(folder, keys, tmp_path):
    write_manifest(folder, CONTENT)
    before = (folder / "manifest.json").read_bytes()
    theirs, _ = write_pair(tmp_path, "theirs")
    sign_artifact(folder, theirs)
    sign_artifact(tmp_path, keys[0])  # the run that it belongs to
    assert read_manifest(folder, keys[1])
    assert (folder / "manifest.json").read_bytes() == before


def test_a_damaged_artefact_is_not_signed(folder, keys):
    write_manifest(folder, CONTENT)
    (folder / "weights").write_bytes(b"others!")
    with pytest.raises(ValueError, match="weights is damaged"):
        sign_artifact(folder, keys[0])
    assert not (folder / "manifest.sig").exists()


def test_a_search_signs_its_artefact_and_reads_the_key_before_it_trains(
    folder, keys, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("ray")
    from tune import driver
    from tune.search import main

    write_manifest(folder, CONTENT)
    ran = []
    monkeypatch.setattr(driver, "run_search", lambda *_, **__: ran.append(1) or tmp_path)
    for wrong in (keys[1], tmp_path / "nowhere.pem"):
        assert main(["--sign", str(wrong)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(wrong) in line
    assert not ran
    assert main(["--sign", str(keys[0])]) == 0
    assert read_manifest(folder, keys[1])


def test_a_private_key_where_a_public_one_is_wanted_comes_with_the_remedy(folder, keys):
    with pytest.raises(ValueError, match=rf"openssl pkey -in {keys[0]} -pubout -out public\.pem"):
        read_manifest(folder, keys[0])


def test_an_unsigned_artefact_is_refused_where_a_key_is_asked_for(folder, keys):
    write_manifest(folder, CONTENT)  # again, by somebody without the key
    assert read_manifest(folder)
    with pytest.raises(ValueError, match=r"is not signed: expected manifest\.sig"):
        read_manifest(folder, keys[1])


def test_the_signature_of_another_key_is_refused(folder, tmp_path):
    _, theirs = write_pair(tmp_path, "theirs")
    with pytest.raises(ValueError, match=r"manifest\.sig: expected the signature of the key"):
        read_manifest(folder, theirs)


def test_a_change_after_signing_is_refused_though_the_hashes_are_right(folder, keys):
    forge(folder, lambda manifest: manifest | {"score_threshold": 0.6})
    assert read_manifest(folder)["score_threshold"] == 0.6
    with pytest.raises(ValueError, match="received that of another key, or of what has been"):
        read_manifest(folder, keys[1])


def test_a_changed_file_is_refused_whatever_the_signature(folder, keys):
    (folder / "weights").write_bytes(b"others!")
    with pytest.raises(ValueError, match="weights is damaged"):
        read_manifest(folder, keys[1])


def test_what_is_no_key_is_refused_in_one_line_before_anything_is_written(tmp_path, keys):
    curve = write_pair(tmp_path, "curve", ec.generate_private_key(ec.SECP256R1()))
    locked = write_pair(
        tmp_path, "locked", encryption=serialization.BestAvailableEncryption(b"password")
    )
    (tmp_path / "text.pem").write_text("no key")
    for wrong in (keys[1], curve[0], locked[0], tmp_path / "text.pem", 7):
        with pytest.raises(ValueError, match="an unencrypted private Ed25519 key in a PEM") as bad:
            write_manifest(tmp_path, CONTENT, wrong)
        assert "\n" not in str(bad.value)
    for wrong in (keys[0], curve[1]):
        with pytest.raises(ValueError, match="expected an unencrypted public Ed25519 key"):
            read_manifest(tmp_path, wrong)
    assert not (tmp_path / "manifest.json").exists()


def test_a_missing_key_file_is_told_of(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pem"):
        read_manifest(folder, tmp_path / "nowhere.pem")


def test_without_the_package_the_extra_is_named(folder, keys, monkeypatch):
    for name in ("cryptography", "cryptography.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"pip install 'keras_ddnn\[sign\]'"):
        read_manifest(folder, keys[1])


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command")
def test_keys_made_by_openssl_as_described_sign_and_verify(folder, tmp_path):
    from keras_ddnn.files import signature

    lines = [line.split() for line in signature.__doc__.splitlines() if "openssl" in line]
    assert len(lines) == 2
    for line in lines:
        subprocess.run(line, cwd=tmp_path, check=True, capture_output=True)
    write_manifest(folder, CONTENT, tmp_path / "private.pem")
    assert read_manifest(folder, tmp_path / "public.pem")


def test_policies_devices_and_clouds_ask_for_signatures(toy_policy, tmp_path, keys):
    from keras_ddnn.deploy.artifact import load_policy, save_policy
    from keras_ddnn.serve.cloud.network import load_cloud
    from keras_ddnn.serve.edge.runtime import EdgeRuntime

    folder = tmp_path / "signed"
    save_policy(toy_policy, folder, sign=keys[0])
    _, theirs = write_pair(tmp_path, "theirs")
    for read in (load_policy, load_cloud, EdgeRuntime):
        assert read(folder, verify_key=keys[1])
        with pytest.raises(ValueError, match="expected the signature"):
            read(folder, verify_key=theirs)


@pytest.mark.parametrize("machine", ["edge", "cloud"])
def test_both_command_lines_refuse_what_is_not_signed(
    toy_artifact, keys, machine, capsys, monkeypatch
):
    from keras_ddnn.serve.cloud import __main__ as cloud
    from keras_ddnn.serve.edge import __main__ as edge

    arguments = [str(toy_artifact), "--verify-key", str(keys[1])]
    arguments += ["--images", "nowhere"] if machine == "edge" else []
    monkeypatch.setattr(sys, "argv", ["serve", *arguments])
    with pytest.raises(SystemExit) as ended:
        {"edge": edge, "cloud": cloud}[machine].main()
    assert ended.value.code == 2
    assert "is not signed: expected manifest.sig" in capsys.readouterr().err

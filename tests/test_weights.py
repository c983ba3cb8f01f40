"""A file of weights gives numbers to the network it is for, and nothing else."""

import h5py
import keras
import numpy as np
import pytest

from keras_ddnn.networks.weights import rebuild


def build(units=2):
    inputs = keras.Input((3,))
    return keras.Model(inputs, keras.layers.Dense(units, name="dense")(inputs))


@pytest.fixture
def path(tmp_path):
    build().save_weights(tmp_path / "a.weights.h5")
    return tmp_path / "a.weights.h5"


KERNEL = "layers/dense/vars/0"


def replace(path, make):
    """Put something else in the place of the kernel."""
    with h5py.File(path, "a") as file:
        del file[KERNEL]
        make(file)


def test_weights_are_read_back(path):
    first, second = rebuild(build, path), rebuild(build, path)
    for weights, again in zip(first.get_weights(), second.get_weights()):
        np.testing.assert_array_equal(weights, again)


def secret(folder):
    with h5py.File(folder / "secret.h5", "w") as file:
        file["kernel"] = np.full((3, 2), 7.0, np.float32)
    return folder / "secret.h5"


def test_a_link_to_another_file_is_not_followed(path, tmp_path):
    link = h5py.ExternalLink(str(secret(tmp_path)), "kernel")
    replace(path, lambda file: file.__setitem__(KERNEL, link))
    with pytest.raises(ValueError, match=r"received '0', a link to elsewhere \(ExternalLink"):
        rebuild(build, path)


def test_a_link_in_the_place_of_a_whole_layer_is_not_followed(path, tmp_path):
    def make(file):
        del file["layers"]
        file["layers"] = h5py.ExternalLink(str(secret(tmp_path)), "/")

    replace(path, make)
    with pytest.raises(ValueError, match="received 'layers', a link to elsewhere"):
        rebuild(build, path)


def test_an_array_of_another_file_s_data_is_refused(path, tmp_path):
    layout = h5py.VirtualLayout((3, 2), np.float32)
    layout[:] = h5py.VirtualSource(str(secret(tmp_path)), "kernel", (3, 2))
    replace(path, lambda file: file.create_virtual_dataset(KERNEL, layout))
    with pytest.raises(ValueError, match="kept in another file"):
        rebuild(build, path)


def test_an_array_of_another_file_s_bytes_is_refused(path, tmp_path):
    (tmp_path / "raw").write_bytes(b"password" * 3)
    external = [(str(tmp_path / "raw"), 0, 24)]
    replace(path, lambda f: f.create_dataset(KERNEL, (3, 2), np.float32, external=external))
    with pytest.raises(ValueError, match="kept in another file"):
        rebuild(build, path)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}])
def test_an_array_that_claims_more_than_it_holds_is_refused(path, options):
    shape = (1 << 20, 1 << 20)
    chunks = (1024, 1024) if options else None
    replace(path, lambda f: f.create_dataset(KERNEL, shape, np.float32, chunks=chunks, **options))
    with pytest.raises(ValueError, match=r"expected 4,398,046,511,104 bytes .* received 0"):
        rebuild(build, path)


def test_text_is_no_weight(path):
    replace(path, lambda file: file.create_dataset(KERNEL, data="text"))
    with pytest.raises(ValueError, match="received 'layers/dense/vars/0' of another type"):
        rebuild(build, path)


def test_a_network_too_large_for_its_file_is_never_made(path):
    def huge():
        return build(10**9)  # 16 GB of weights

    with pytest.raises(ValueError, match=r"expected the 4,000,000,000 weights .* received 8"):
        rebuild(huge, path)
    with keras.StatelessScope():
        pass  # at whose end Keras would make what it has put off
    assert rebuild(build, path)


def test_the_weights_of_another_network_are_refused_in_one_line(path):
    def other():
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.ReLU()])

    with pytest.raises(ValueError, match="weights of the network described") as refused:
        rebuild(other, path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"weights", b"\x89HDF\r\n\x1a\n" * 20])
def test_what_is_no_hdf5_file_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is no readable HDF5 file"):
        rebuild(build, path)

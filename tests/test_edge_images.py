"""A device reads images as training read them, in the channels of its artefact."""

import numpy as np
import pytest
from PIL import Image

from keras_ddnn.config import DDNNConfig
from keras_ddnn.deploy.artifact import save_policy
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.networks.paper import build_ddnn
from keras_ddnn.rules.confidence import Margin
from keras_ddnn.serve.edge.__main__ import main
from keras_ddnn.serve.edge.telling.view import read_images

# Of a manifest.
NO_CLASSES = {"class_names": [], "input_shape": [16, 16, 3], "input_dtype": "uint8"}


@pytest.fixture(scope="module")
def grey_artifact(tmp_path_factory):
    config = DDNNConfig(local_filters=4, cloud_filters=((4,), (8,)), cloud_units=(8,))
    model = build_ddnn((16, 16, 1), 3, config)
    folder = tmp_path_factory.mktemp("grey") / "artifact"
    save_policy(OffloadPolicy(model, config, Margin(), 0.5, ("a", "b", "c")), folder)
    return folder


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_images_are_read_with_the_channels_of_the_artefact(grey_artifact, tmp_path, capsys, mode):
    for k in range(3):
        image = Image.new(mode, (16, 16), 100 if mode == "L" else 0)
        (tmp_path / "images" / "abc"[k]).mkdir(parents=True)
        image.save(tmp_path / "images" / "abc"[k] / "0.png")
    main([str(grey_artifact), "--images", str(tmp_path / "images")])
    assert "3 images" in capsys.readouterr().out


def test_images_of_a_device_are_read_as_those_of_training(tmp_path):
    Image.new("RGBA", (16, 16), (9, 9, 9, 0)).save(tmp_path / "0.png")
    deep = Image.fromarray(np.full((16, 16), 1000, np.float32))
    deep.save(tmp_path / "1.tif")
    images, labels = read_images(
        str(tmp_path), None, NO_CLASSES, channels=1, background="#070707", scale=1000
    )
    assert images.shape == (2, 16, 16, 1)
    assert images[:, 0, 0, 0].tolist() == [7, 255]
    assert labels is None


PADDED = {"fit": "pad_to_aspect_ratio", "background": [7, 7, 7], "scale": 400.0}


@pytest.mark.parametrize("as_dataset", [False, True])
def test_image_files_are_read_as_those_of_training_unless_asked_otherwise(
    tmp_path, caplog, as_dataset
):
    """Of 16×32 pixels of half the white, brought to 16×16: padded, four rows above are 7."""
    half = Image.fromarray(np.full((16, 32), 200, np.uint16))
    for what in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / what / name).mkdir(parents=True)
            half.save(tmp_path / what / name / "0.png")
    manifest = NO_CLASSES | {"class_names": ["a", "b"]}
    source = (None, str(tmp_path)) if as_dataset else (str(tmp_path / "test"), None)

    def column(manifest, **given):
        return read_images(*source, manifest, **given)[0][0, :, 5, 0].tolist()

    unknown = [1] * 16  # 200 of 65,535
    assert column(manifest) == column(manifest | {"reading": None}) == unknown
    trained = manifest | {"reading": PADDED}
    expected = [7] * 4 + [128] * 8 + [7] * 4
    assert column(trained) == column(trained, fit=None, background=None, scale=None) == expected
    assert column(trained, background="#070707", fit="pad_to_aspect_ratio") == expected
    assert "for the training images" not in caplog.text
    assert column(trained, fit="resize", scale=800.0) == [64] * 16
    assert "fit is resize here; for the training images it was pad_to_asp" in caplog.text
    assert "scale is 800.0 here; for the training images it was 400.0" in caplog.text


def test_arrays_are_no_image_files_that_are_read_as_those_of_training(tmp_path):
    images, labels = np.zeros((4, 16, 16, 3), np.uint8), [0, 0, 1, 1]
    arrays = {"x_train": images, "y_train": labels, "x_test": images + 9, "y_test": labels}
    np.savez(tmp_path / "toy.npz", **arrays)
    manifest = NO_CLASSES | {"reading": PADDED}
    found, _ = read_images(None, str(tmp_path / "toy.npz"), manifest, fit=None, background=None)
    assert (found == 9).all()


def test_damaged_images_of_a_device_are_listed_and_the_limit_counts(tmp_path):
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"received 3 of 3 files .*0\.png, 1\.png, 2\.png"):
        read_images(str(tmp_path), None, NO_CLASSES, limit=3)
    with pytest.raises(ValueError, match="limit must be a positive integer"):
        read_images(str(tmp_path), None, NO_CLASSES, limit=0)


def test_a_device_that_reads_test_data_says_nothing_of_validation_data(tmp_path, caplog):
    images, labels = np.zeros((40, 16, 16, 3), np.uint8), np.arange(40) % 2
    names = ("x_train", "y_train", "x_test", "y_test")
    arrays = dict(zip(names, (images, labels, images[:6], labels[:6])))
    np.savez(tmp_path / "toy.npz", **arrays)
    read, known = read_images(None, str(tmp_path / "toy.npz"), NO_CLASSES, channels=3)
    assert len(read) == 6
    assert known.tolist() == [0, 1, 0, 1, 0, 1]
    assert caplog.messages == []


def test_hidden_files_are_no_images_of_a_device(tmp_path, caplog):
    Image.new("L", (16, 16)).save(tmp_path / "0.png")
    (tmp_path / "._0.png").write_bytes(b"left by a file system")
    (tmp_path / "1.heic").write_bytes(b"")
    assert len(read_images(str(tmp_path), None, NO_CLASSES)[0]) == 1
    (message,) = caplog.messages
    assert message.endswith("1 files are not read, because of their suffix: .heic (1)")

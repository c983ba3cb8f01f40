import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.projector import ProjectorConfig

from keras_ddnn.training.tensorboard import (
    write_benefit,
    write_figure,
    write_hparams,
    write_hparams_experiment,
    write_projector,
    write_scalars,
)


def read(folder):
    return EventAccumulator(str(folder)).Reload()


def read_scalar(folder, tag):
    """What the Scalars tab plots: {step: value}."""
    return {
        event.step: pytest.approx(tf.make_ndarray(event.tensor_proto).item())
        for event in read(folder).Tensors(tag)
    }


def read_hparams(folder, tag):
    content = read(folder).SummaryMetadata(tag).plugin_data.content
    if tag == hparams_metadata.EXPERIMENT_TAG:
        return hparams_metadata.parse_experiment_plugin_data(content)
    return hparams_metadata.parse_session_start_info_plugin_data(content)


def read_table(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def read_projector(folder):
    return text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())


# Scalars


def test_a_sequence_is_written_step_by_step_and_a_number_at_step_zero(tmp_path):
    write_scalars(tmp_path, {"loss": [0.5, 0.25, 0.125], "seconds": 7})
    assert read_scalar(tmp_path, "loss") == {0: 0.5, 1: 0.25, 2: 0.125}
    assert read_scalar(tmp_path, "seconds") == {0: 7.0}


def test_a_table_is_no_scalar(tmp_path):
    with pytest.raises(ValueError, match=r"'loss' has shape \(2, 2\)"):
        write_scalars(tmp_path, {"loss": [[1, 2], [3, 4]]})


def test_nothing_is_lost_while_a_callback_has_turned_recording_off(tmp_path):
    with tf.summary.record_if(False):
        write_scalars(tmp_path, {"loss": 0.5})
    assert read_scalar(tmp_path, "loss") == {0: 0.5}


# HParams


def test_a_trial_is_a_row_of_its_hyperparameters_and_metrics(tmp_path):
    hparams = {"rule": "head", "lr": np.float32(0.5), "units": 64, "augment": True}
    write_hparams(tmp_path, "trial_7", hparams, {"APGR": 0.75})
    row = read_hparams(tmp_path, hparams_metadata.SESSION_START_INFO_TAG)
    assert row.group_name == "trial_7"
    assert row.hparams["rule"].string_value == "head"
    assert row.hparams["lr"].number_value == 0.5
    assert row.hparams["units"].number_value == 64
    assert row.hparams["augment"].bool_value is True
    assert read_scalar(tmp_path, "APGR") == {0: 0.75}


def test_values_tensorboard_does_not_know_are_shown_as_text(tmp_path):
    write_hparams(tmp_path, "t", {"dropout": None, "hidden": (8, 4), "from_json": [8, 4]}, {})
    row = read_hparams(tmp_path, hparams_metadata.SESSION_START_INFO_TAG).hparams
    assert row["dropout"].string_value == "None"
    assert row["hidden"].string_value == row["from_json"].string_value == "(8, 4)"


def test_the_experiment_names_columns_and_their_domains(tmp_path):
    domains = {"lr": (1e-4, 1), "units": [64, 32], "hidden": [(8,), (8, 4)], "dropout": [None, 0.5]}
    write_hparams_experiment(tmp_path, domains, ["APGR", "AUDC"])
    experiment = read_hparams(tmp_path, hparams_metadata.EXPERIMENT_TAG)
    assert [metric.name.tag for metric in experiment.metric_infos] == ["APGR", "AUDC"]
    columns = {info.name: info for info in experiment.hparam_infos}
    assert list(columns) == list(domains)
    interval = columns["lr"].domain_interval
    assert (interval.min_value, interval.max_value) == (1e-4, 1)
    assert list(columns["units"].domain_discrete) == [32, 64]
    assert list(columns["hidden"].domain_discrete) == ["(8, 4)", "(8,)"]
    assert columns["dropout"].WhichOneof("domain") is None


def test_a_tuple_of_three_is_no_interval(tmp_path):
    with pytest.raises(ValueError, match=r"'units': .* is no interval"):
        write_hparams_experiment(tmp_path, {"units": (32, 64, 128)}, [])


# Benefit


def test_the_benefit_is_counted_and_split_at_its_threshold(tmp_path):
    write_benefit(tmp_path, [-1.0, 0.0, 0.25, 1.0], benefit_threshold=0.25, step=3)
    [event] = read(tmp_path).Tensors("benefit/B_k")
    left, right, count = tf.make_ndarray(event.tensor_proto).T
    assert (event.step, left[0], right[-1], count.sum()) == (3, -1, 1, 4)
    assert read_scalar(tmp_path, "benefit/threshold") == {3: 0.25}
    assert read_scalar(tmp_path, "benefit/local_fraction") == {3: 0.5}


@pytest.mark.parametrize(
    ("benefit", "message"),
    [([], r"shape \(0,\)"), ([[1.0]], r"shape \(1, 1\)"), ([0, np.inf, np.nan], "2 of 3")],
)
def test_a_benefit_without_histogram_is_refused(tmp_path, benefit, message):
    with pytest.raises(ValueError, match=message):
        write_benefit(tmp_path, benefit, 0.0)


# Figures


def test_a_figure_becomes_an_image_of_its_size_and_colour(tmp_path):
    figure = Figure(figsize=(3, 2), dpi=50, facecolor="red")
    write_figure(tmp_path, "curve", figure, step=2)
    [event] = read(tmp_path).Tensors("curve")
    width, height, png = tf.make_ndarray(event.tensor_proto)
    image = tf.io.decode_png(png).numpy()
    assert (event.step, width, height, image.shape) == (2, b"150", b"100", (100, 150, 4))
    assert (image == [255, 0, 0, 255]).all()


# Projector


def test_vectors_metadata_and_images_stay_aligned(tmp_path):
    n = 50
    vectors = np.arange(n)[:, None] * np.array([1.0, 0.5])
    images = np.full((n, 2, 3, 1), np.arange(n)[:, None, None, None], np.uint8)
    metadata = {"index": range(n), "decision": np.where(np.arange(n) % 3, "hard", "easy")}
    rows = write_projector(tmp_path, vectors, metadata, images, max_points=10)

    assert len(set(rows)) == 10
    assert np.all(np.diff(rows) > 0)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "vectors.tsv"), vectors[rows])
    header, *cells = read_table(tmp_path / "metadata.tsv")
    assert header == ["index", "decision"]
    assert cells == [[str(row), "hard" if row % 3 else "easy"] for row in rows]
    sprite = tf.io.decode_png((tmp_path / "sprite.png").read_bytes()).numpy()
    assert sprite.shape == (8, 12, 1)  # ten tiles in a sheet of four by four
    assert sprite[::2, ::3, 0].ravel().tolist() == [*rows, 0, 0, 0, 0, 0, 0]


def test_the_projector_finds_its_files(tmp_path):
    images = np.zeros((4, 2, 3, 1), np.uint8)
    write_projector(tmp_path, np.eye(4), {"decision": ["hard"] * 4}, images)
    dots, pictures = read_projector(tmp_path).embeddings
    for embedding in (dots, pictures):
        assert (tmp_path / embedding.tensor_path).is_file()
        assert (tmp_path / embedding.metadata_path).is_file()
    assert not dots.HasField("sprite")
    assert (tmp_path / pictures.sprite.image_path).is_file()
    assert list(pictures.sprite.single_image_dim) == [3, 2]
    # TensorBoard ignores a folder without one.
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_a_single_column_has_no_header_and_no_cell_breaks_a_row(tmp_path):
    write_projector(tmp_path, np.eye(2), {"name": ["a\tb", "c\nd"]})
    assert read_table(tmp_path / "metadata.tsv") == [["a b"], ["c d"]]
    [embedding] = read_projector(tmp_path).embeddings
    assert not embedding.HasField("sprite")


def test_the_sample_depends_on_the_seed_alone(tmp_path):
    def sample(**options):
        return write_projector(tmp_path, np.eye(30), {}, **options).tolist()

    assert sample(max_points=5) == sample(max_points=5)
    assert sample(max_points=5) != sample(max_points=5, seed=1)
    assert sample(max_points=30) == list(range(30))


def test_large_images_shrink_to_fit_a_texture(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_ddnn.training.tensorboard.MAX_SPRITE_PIXELS", 64)
    write_projector(tmp_path, np.eye(4), {}, np.zeros((4, 100, 50, 3), np.uint8))
    sprite = tf.io.decode_png((tmp_path / "sprite.png").read_bytes())
    assert max(sprite.shape) <= 64
    width, height = read_projector(tmp_path).embeddings[1].sprite.single_image_dim
    assert sprite.shape == (2 * height, 2 * width, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vectors": np.zeros(3)}, r"vectors have shape \(3,\)"),
        ({"vectors": np.zeros((0, 2))}, r"vectors have shape \(0, 2\)"),
        ({"vectors": np.full((3, 2), np.nan)}, "vectors: 6 of 6"),
        ({"metadata": {"decision": ["hard"]}}, "'decision' has 1 entries, but there are 3 vectors"),
        ({"images": np.zeros((2, 4, 4, 3), np.uint8)}, "images has 2 entries, .* 3 vectors"),
        ({"images": np.zeros((3, 4, 4, 3), np.float32)}, "images are float32"),
        ({"images": np.zeros((3, 4, 4), np.uint8)}, r"shape \(3, 4, 4\)"),
    ],
)
def test_a_projector_nobody_could_read_is_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_projector(tmp_path, **{"vectors": np.zeros((3, 2)), "metadata": {}, **arguments})
    assert not list(tmp_path.iterdir())

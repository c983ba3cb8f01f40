"""What each cut of a model costs, on a model whose arithmetic a reader can check."""

import csv
import json
import re
import subprocess
import sys
from functools import partial

import keras
import pytest
from keras import layers
from PIL import Image

from figures.__main__ import main as draw_figures
from keras_ddnn.deploy.cuts_command import main
from keras_ddnn.evaluation.cut_latency import Machines, cut_latencies
from keras_ddnn.networks.costs.model_costs import cut_costs
from keras_ddnn.networks.paper import build_ddnn
from keras_ddnn.serve.edge import __main__ as edge

# A million multiply-adds a second on the device, ten in the cloud, a thousand bytes a second.
LINE = {"cloud-gmacs": 0.01, "bandwidth-mbps": 0.008, "round-trip-ms": 100}
MACHINES = Machines(1e6, 1e7, 1e3, 0.1)


def toy():
    """Return 8×8×3 → conv 4×4×4 → relu → conv 4×4×2 → mean of 2 → 5 classes."""
    images = keras.Input((8, 8, 3), name="images")
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="a")(images)
    x = layers.ReLU(name="relu")(x)
    x = layers.Conv2D(2, 1, name="b")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(images, layers.Dense(5, name="scores")(x))


A, B, SCORES = 4 * 4 * (3 * 3 * 3) * 4, 4 * 4 * 4 * 2, 2 * 5  # 1728, 128, 10 multiply-adds


class Mystery(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],))

    def call(self, inputs):
        return inputs * self.scale


def mysterious():
    model = toy()
    return keras.Sequential(
        [keras.Input((8, 8, 3)), *model.layers[1:4], Mystery(), *model.layers[4:]]
    )


def not_a_model():
    return 7


def broken():
    raise RuntimeError("no\ndata")


def sentences():
    tokens = keras.Input((None,), dtype="int32")
    x = layers.Conv1D(6, 3, name="conv")(layers.Embedding(50, 4, name="embed")(tokens))
    return keras.Model(tokens, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))


def command(model, *more, device=("--device-gmacs", "0.001")):
    line = [part for name, value in LINE.items() for part in (f"--{name}", str(value))]
    return main([model, *device, *line, *map(str, more)])


def table_of(path) -> dict[str, dict]:
    with path.open() as file:
        return {row["layer"]: row for row in csv.DictReader(file)}


def test_each_cut_costs_what_it_does_by_hand():
    rows = {row.layer: row for row in cut_costs(toy())}
    assert list(rows) == ["cloud only", "a", "relu", "b", "mean", "device only"]
    assert [row.device_multiply_adds for row in rows.values()] == [
        *(0, A, A, A + B, A + B, A + B + SCORES)
    ]
    assert {row.device_multiply_adds + row.cloud_multiply_adds for row in rows.values()} == {
        A + B + SCORES
    }
    # A dense layer to 5 classes behind the mean of 4 channels, and of 2.
    assert [row.exit_multiply_adds for row in rows.values()] == [0, 20, 20, 10, 10, 0]
    kernel_a, kernel_b = 3 * 3 * 3 * 4 + 4, 4 * 2 + 2
    assert rows["relu"].parameter_bytes == 4 * kernel_a
    assert rows["device only"].parameter_bytes == 4 * (kernel_a + kernel_b + 2 * 5 + 5)
    # The image as bytes, 4×4×4 and 4×4×2 values, and nothing.
    assert [row.float16_bytes for row in rows.values()] == [192, 128, 128, 64, 4, 0]
    assert [row.int8_bytes for row in rows.values()] == [192, 64, 64, 32, 2, 0]


def test_peak_activations_are_the_tensors_that_live_together():
    rows = {row.layer: row for row in cut_costs(toy(), value_bytes=1)}
    # The image and what the first convolution makes; the ReLU works in place.
    assert rows["cloud only"].peak_activation_bytes == 0
    assert rows["relu"].peak_activation_bytes == 8 * 8 * 3 + 4 * 4 * 4
    tokens = {row.layer: row for row in cut_costs(wide())}
    # Both branches of 100 values are kept for their sum, which is a third; as float32.
    assert tokens["sum"].peak_activation_bytes == 4 * 3 * 100


def wide():
    inputs = keras.Input((6,))
    one, other = layers.Dense(100, name="one")(inputs), layers.Dense(100, name="other")(inputs)
    x = layers.Add(name="sum")([one, other])
    return keras.Model(inputs, layers.Dense(2)(x))


def test_latencies_add_up_by_hand():
    rows = {row.layer: row for row in cut_latencies(cut_costs(toy()), MACHINES, 0.25)}
    kept = (A + 20) / 1e3  # of a thousand multiply-adds a millisecond
    offloaded = kept + 128 + 100 + (B + SCORES) / 1e4  # 128 bytes at a byte a millisecond
    assert rows["a"].kept_ms == pytest.approx(kept)
    assert rows["a"].offloaded_ms == pytest.approx(offloaded)
    assert rows["a"].mean_ms == pytest.approx(0.25 * kept + 0.75 * offloaded)
    assert rows["cloud only"].kept_ms is None
    assert rows["cloud only"].mean_ms == pytest.approx(192 + 100 + (A + B + SCORES) / 1e4)
    alone = rows["device only"]
    assert alone.kept_ms == alone.offloaded_ms == alone.mean_ms == (A + B + SCORES) / 1e3


def test_what_another_cut_beats_in_all_three_is_not_optimal():
    rows = cut_latencies(cut_costs(toy()), MACHINES)
    # "b" computes as much as "mean" and sends more; "a" and "relu" tie.
    optimal = {row.layer: row.pareto for row in rows}
    assert optimal == {
        **{"cloud only": True, "a": True, "relu": True},
        **{"b": False, "mean": True, "device only": True},
    }
    codes = {row.layer: row for row in cut_latencies(cut_costs(toy()), MACHINES, 0.5, "int8")}
    assert codes["a"].sent_bytes == 64


def test_the_exit_that_a_ddnn_has_is_the_one_that_counts():
    rows = {row.layer: row for row in cut_costs(build_ddnn((32, 32, 3), 10))}
    assert rows["features"].exit_multiply_adds == 16 * 16 * 32 * 64 + 64 * 10
    assert rows["features"].device_multiply_adds == 32 * 32 * 27 * 32
    assert rows["local_pool"].exit_multiply_adds == 32 * 10
    assert rows["features"].float16_bytes == 16_384
    assert rows["cloud only"].float16_bytes == 3_072


def test_the_command_prints_writes_and_draws_the_table(tmp_path, capsys):
    files = tmp_path / "cuts.csv", tmp_path / "drawn.png"
    assert command("test_cuts:toy", "--csv", files[0], "--figure", files[1]) == 0
    said = capsys.readouterr().out
    assert "cloud only" in said
    assert "least mean latency: cut behind mean" in said
    assert "…" not in said
    rows = table_of(files[0])
    assert list(rows) == ["cloud only", "a", "relu", "b", "mean", "device only"]
    assert int(rows["a"]["device_multiply_adds"]) == A
    assert float(rows["a"]["kept_ms"]) == pytest.approx((A + 20) / 1e3)
    assert rows["cloud only"]["kept_ms"] == ""
    assert files[1].read_bytes().startswith(b"\x89PNG")
    assert draw_figures(["--results", str(tmp_path)]) == 0
    assert (tmp_path / "cuts.png").exists()


def test_images_of_any_size_are_sent_as_png_of_the_models_size(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    for side in (8, 20):  # both of one colour, so equal after resizing
        Image.new("RGB", (side, side), "red").save(tmp_path / "images" / f"{side}.png")
    expected = (tmp_path / "images" / "8.png").stat().st_size
    options = ("--images", tmp_path / "images", "--csv", tmp_path / "cuts.csv")
    assert command("test_cuts:toy", *options) == 0
    assert float(table_of(tmp_path / "cuts.csv")["cloud only, as PNG"]["sent_bytes"]) == expected
    assert "the mean of 2 images of 8×8×3" in capsys.readouterr().out


def test_unknown_stays_unknown_and_is_said_in_one_line(tmp_path, capsys):
    assert command("test_cuts:mysterious", "--csv", tmp_path / "cuts.csv") == 0
    rows = table_of(tmp_path / "cuts.csv")
    assert int(rows["b"]["device_multiply_adds"]) == A + B
    assert rows["b"]["cloud_multiply_adds"] == rows["b"]["offloaded_ms"] == ""
    assert {row["pareto"] for row in rows.values()} == {""}
    said = capsys.readouterr().out
    assert "unknown" in said
    (line,) = (line for line in said.splitlines() if line.startswith("left out"))
    assert "(Mystery) are unknown" in line


def test_an_open_length_is_given_on_the_command_line(tmp_path):
    assert command("test_cuts:sentences", "--csv", tmp_path / "open.csv") == 0
    assert table_of(tmp_path / "open.csv")["conv"]["device_multiply_adds"] == ""
    assert command("test_cuts:sentences", "--input-shape", 12, "--csv", tmp_path / "12.csv") == 0
    row = table_of(tmp_path / "12.csv")["conv"]
    assert int(row["device_multiply_adds"]) == 10 * (3 * 4) * 6
    assert int(table_of(tmp_path / "12.csv")["cloud only"]["sent_bytes"]) == 12 * 4


def test_a_model_is_read_from_its_file_and_not_from_code_in_it(tmp_path, capsys):
    toy().save(tmp_path / "toy.keras")
    assert command(str(tmp_path / "toy.keras")) == 0
    images = keras.Input((4,))
    unsafe = keras.Model(images, layers.Dense(2)(layers.Lambda(lambda x: x)(images)))
    unsafe.save(tmp_path / "unsafe.keras")
    assert command(str(tmp_path / "unsafe.keras")) == 2
    assert "safe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        ("MobilNetV2", (), "unknown model 'MobilNetV2'.*near names: MobileNet"),
        ("test_cuts:nothing", (), "has no attribute 'nothing'"),
        ("no_such_module:model", (), "No module named 'no_such_module'"),
        ("test_cuts:not_a_model", (), "expected a Keras model; received int"),
        ("test_cuts:broken", (), "raised RuntimeError: no data"),
        ("missing.keras", (), "missing.keras: expected a .keras file"),
        ("test_cuts:toy", ("--classes", 3), "has classes of its own"),
        ("test_cuts:toy", ("--input-shape", 9, 9, 3), r"input of shape \(8, 8, 3\)"),
        ("test_cuts:toy", ("--images", "nowhere"), "nowhere"),
        ("test_cuts:toy", ("--local-fraction", 1.5), "must lie in"),
        ("test_cuts:toy", ("--csv", f"{__file__}/cuts.csv"), "test_cuts.py"),
        ("test_cuts:toy", ("--figure", "cuts.xyz"), "xyz"),
    ],
)
def test_bad_input_is_answered_in_one_line(capsys, model, more, message):
    assert command(model, *more) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line)


def test_an_option_that_is_no_positive_number_is_answered_in_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        command("test_cuts:toy", device=("--device-gmacs", "-1"))
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_rate_of_a_device_takes_the_place_of_a_number(tmp_path, capsys):
    rate = tmp_path / "rate.json"
    rate.write_text(json.dumps({"multiply_adds_per_second": 1e6}))
    for name, device in (("given", ("--device-gmacs", 0.001)), ("file", ("--rate", rate))):
        assert command("test_cuts:toy", "--csv", tmp_path / name, device=map(str, device)) == 0
    assert table_of(tmp_path / "given") == table_of(tmp_path / "file")
    rate.write_text(json.dumps({"multiply_adds_per_second": None}))
    assert command("test_cuts:toy", device=("--rate", str(rate))) == 2
    assert "multiply_adds_per_second must be positive; received None" in capsys.readouterr().err


def test_the_device_measures_its_own_rate(toy_artifact, tmp_path, monkeypatch):
    monkeypatch.setattr(edge, "benchmark", partial(edge.benchmark, seconds=0.05))
    rate = tmp_path / "rate.json"
    edge.main([str(toy_artifact), "--benchmark", str(rate)])
    found = json.loads(rate.read_text())
    by_hand = 16 * 16 * 27 * 4 + 8 * 8 * 4 * 64 + 64 * 3
    assert found["multiply_adds"] == by_hand
    assert found["multiply_adds_per_second"] == pytest.approx(by_hand / found["seconds_per_sample"])
    needed = (toy_artifact / name for name in ("edge.tflite", "manifest.json"))
    assert found["files_bytes"] == sum(file.stat().st_size for file in needed)
    assert found["peak_memory_bytes"] > found["files_bytes"]
    assert command("test_cuts:toy", device=("--rate", str(rate))) == 0


def test_the_same_function_gives_the_same_names_of_layers(tmp_path):
    for name in ("one.csv", "other.csv"):
        layers.ReLU()  # a name is taken
        assert command("test_cuts:sentences", "--csv", tmp_path / name) == 0
    assert (tmp_path / "one.csv").read_text() == (tmp_path / "other.csv").read_text()
    assert "global_max_pooling1d" in table_of(tmp_path / "one.csv")


def test_benchmark_needs_no_keras(toy_artifact, tmp_path):
    code = (
        "import sys; from keras_ddnn.serve.edge.telling.benchmark import benchmark; "
        f"benchmark({str(toy_artifact)!r}, 'float', {str(tmp_path / 'rate.json')!r}, 0.01); "
        "assert not {'keras', 'tensorflow'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

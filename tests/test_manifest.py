import json
import math
import os
import re
import shutil

import pytest
from conftest import flip_a_bit
from toy_manifest import CONTENT, changed, forge, removed

from keras_ddnn.files.checksums import sha256
from keras_ddnn.files.manifest import MAX_BYTES, SCHEMA, model_id, read_manifest, write_manifest


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "artifact"
    (folder / "cloud").mkdir(parents=True)
    for name in ("weights", "cloud/graph"):
        (folder / name).write_bytes(name.encode() * 10)
    write_manifest(folder, CONTENT)
    return folder


def test_a_manifest_says_what_it_was_told_and_lists_every_file(folder):
    manifest = read_manifest(folder)
    assert {name: manifest[name] for name in CONTENT} == CONTENT
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
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"manifest\.json"):
            read_manifest(folder)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/hostname", "cloud/../../outside", "cloud//graph", "a\\b", "a\nb"]
)
def test_a_file_outside_the_folder_is_refused(folder, name):
    forge(folder, lambda manifest: manifest | {"sha256": {name: "0" * 64}})
    with pytest.raises(ValueError, match="expected files inside the folder; received"):
        read_manifest(folder)


def test_another_schema_is_refused(folder):
    forge(folder, lambda manifest: manifest | {"schema": 99})
    with pytest.raises(ValueError, match=f"expected schema {SCHEMA}; received 99"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff\xfe", b"{", b"[" * 100_000, b'{"schema":' + b"9" * 10_000 + b"}"]
)
def test_what_is_no_manifest_is_refused(folder, content):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        read_manifest(folder)


def test_an_integer_of_thousands_of_digits_is_refused_in_our_words(folder):
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(
        text.replace(f'"schema": {SCHEMA}', '"schema": ' + "9" * 5000)
    )
    with pytest.raises(
        ValueError, match="expected integers of at most 1,000 digits; received one of 5,000"
    ):
        read_manifest(folder)


def test_a_folder_without_a_manifest_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="run a search first, or name its output folder"):
        read_manifest(tmp_path / "nowhere")


def test_hashes_that_differ_are_cut_to_what_a_person_compares(folder):
    flip_a_bit(folder / "weights")
    with pytest.raises(ValueError, match=r"SHA-256 [0-9a-f]{16}…; received [0-9a-f]{16}…: copy"):
        read_manifest(folder)
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace("Linux", "Minix"))
    with pytest.raises(ValueError, match=r"SHA-256 [0-9a-f]{16}…; received [0-9a-f]{16}…: copy"):
        read_manifest(folder)


@pytest.mark.parametrize("depth", [100, 900, 3000])
def test_deep_nesting_is_refused_in_one_line(folder, depth):
    nested = "[" * depth + "]" * depth
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"Linux"', nested))
    with pytest.raises(ValueError, match=r"manifest\.json"):
        read_manifest(folder)


def test_a_manifest_too_long_to_be_one_is_not_read(folder):
    with open(folder / "manifest.json", "ab") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ValueError, match="expected at most 16,777,216 bytes; received more"):
        read_manifest(folder)


def test_the_model_id_changes_with_any_file(folder):
    before = model_id(folder)
    assert len(before) == 16
    (folder / "weights").write_bytes(b"retrained")
    write_manifest(folder, CONTENT)
    assert model_id(folder) != before


READING = {"fit": "resize", "background": [255, 255, 255], "scale": None}
HUGE = 10**9
WRONG = [
    # path, value, what the error says of what was expected
    ("ddnn.local_filters", HUGE, "an integer in 1..65536; received 1000000000"),
    ("ddnn.local_filters", "4", "an integer in 1..65536; received '4'"),
    ("ddnn.local_filters", True, "an integer in 1..65536; received True"),
    ("ddnn.local_units", 10**400, r"an integer in 1..65536; received 1000"),
    ("ddnn.local_pool", 1, "true or false; received 1"),
    ("ddnn.cloud_filters.1.0", 0, "an integer in 1..65536; received 0"),
    ("ddnn.cloud_filters.1", [], "a list of 1..16 items; received '0 items'"),
    ("ddnn.dropout", math.nan, r"a number in \[0, 1\], not NaN; received nan"),
    ("ddnn.lambda_local", "often", r"a number in \[0, 1\] or random; received 'often'"),
    ("ddnn.surprise", 1, "ddnn: expected only local_filters, .*; received 'surprise'"),
    ("ddnn.seed", -1, "an integer in 0..4294967295; received -1"),
    ("ddnn.bottleneck", HUGE, "an integer in 1..65536"),
    ("input_shape", [16, 16], "a list of 3 or 4 items; received '2 items'"),
    ("input_shape.0", HUGE, r"input_shape\[0\]: expected an integer in 1..16384"),
    ("input_shape", [16384, 16384, 3], "at most 268,435,456 values; received '805,306,368"),
    ("class_names", "ab", "class_names: expected a list of 1..1000000 items; received 'ab'"),
    ("class_names", ["a"], "a list of 2..1000000 items; received '1 items'"),
    ("class_names.1", 7, r"class_names\[1\]: expected text"),
    ("class_names.1", "\ud800", "text that UTF-8 can encode"),
    ("class_values", [1, 1], "class_values: expected values that differ; received 1"),
    ("class_values", [1, "b"], "a list of integers or a list of texts"),
    ("class_values", [1, 2, 3], "class_values: expected one for each of 2 classes; received 3"),
    ("reading", {"fit": "resize"}, "reading.background: expected this field"),
    ("reading", READING | {"background": [0, 0, 256]}, r"background\[2\]: .* integer in 0..255"),
    ("reading", READING | {"scale": 0}, r"reading.scale: expected a number in \(0"),
    ("rule", {"name": "oracle"}, "rule.name: expected one of random, entropy.*'oracle'"),
    ("rule.name", ["head"], "rule.name: expected one of"),
    ("rule", {"name": "margin", "seed": 1}, "rule: expected no further fields; received 'seed'"),
    ("rule.config.depth", 5, "an integer in 1..4"),
    ("rule.input_shape", [2, 2, 2, 2, 2], "a list of 1..4 items; received '5 items'"),
    ("ddnn", None, "ddnn: expected an object with named fields; received None"),
    ("network", {"sent": ["a"]}, "network: expected null beside ddnn, the network of the paper"),
    ("network", {"sent": []}, "network.sent: expected a list of 1 items"),
    ("network", {"sent": ["a"], "code": "x"}, "expected only sent, second_look; received 'code'"),
    ("input_dtype", "object", "input_dtype: expected one of uint8, int32, int64, float32"),
    ("features.dtype", "float64", "features.dtype: expected one of float16, uint8"),
    ("features.dtype", "uint8", "features.quantisation: expected null where no features"),
    ("features.are_inputs", True, "features: expected the inputs, .*, where they travel"),
    ("rule.anchor.rule", "oracle", "rule.anchor.rule: expected one of"),
    ("rule.anchor.scales.0", [0.5], r"rule.anchor.scales\[0\]: expected a list of 2 items"),
    ("score_threshold", math.nan, "not NaN; inf means send none .* -inf send all; received nan"),
    ("score_threshold", None, "score_threshold: expected a number, not NaN; .* received None"),
    ("class_values", ["b", "a"], r"class_names\[0\]: .* label is 'b' .* received 'a', .* class 1"),
    ("score_threshold", 10**400, "score_threshold: expected a number"),
    ("metrics", [], "metrics: expected an object with named fields"),
    ("metrics.val_audc", "good", "metrics.val_audc: expected a number; received 'good'"),
    ("calibration.numbers.validation", {}, "validation.local_fraction: expected this field"),
    ("calibration.limits.local_fraction", [0.4], "a list of 2 items"),
    ("features.shape.2", HUGE, "at most 268,435,456 values"),
    ("features.lossless", "no", "true or false"),
    ("features.quantisation.step", 0, r"a number in \(0, "),
    ("features.quantisation.step", math.inf, r"a number in \(0, "),
    ("features.quantisation.bits", 5, "one of 4, 8; received 5"),
    ("features", CONTENT["features"] | {"quantisation": None, "lossless": True}, "expected codes"),
    ("plan", [], "plan: expected a list of 1..100000 items"),
    ("plan.0.score_threshold", math.inf, r"plan\[0\].score_threshold: expected a number in"),
    ("plan.0.accuracy", 2.0, r"plan\[0\].accuracy: expected a number in \[0, 1\]"),
    ("sha256", [], "sha256: expected an object"),
    ("sha256.weights", "0", "a SHA-256, 64 hex digits; received '0'"),
    ("surprise", 1, "the fields: expected only schema, ddnn"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG)
def test_a_field_that_is_not_as_the_table_says_is_named_in_one_line(folder, path, value, message):
    forge(folder, lambda manifest: changed(manifest, path, value))
    with pytest.raises(ValueError, match=message) as refused:
        read_manifest(folder)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600


FIELDS = [*CONTENT, "sha256", "ddnn.seed", "rule.anchor", "rule.config.loss", "features.shape"]


@pytest.mark.parametrize("path", [*FIELDS, "plan.0.accuracy", "calibration.numbers.n"])
def test_a_missing_field_is_named(folder, path):
    with_index = path.replace(".0", "[0]")
    plan = {"0": CONTENT["plan"][0]}

    def without(manifest):
        if "plan.0" not in path:
            return removed(manifest, path)
        shorter = removed(manifest | {"plan": plan}, path)
        return shorter | {"plan": [shorter["plan"]["0"]]}

    forge(folder, without)
    with pytest.raises(ValueError, match=re.escape(f"{with_index}: expected this field")):
        read_manifest(folder)


@pytest.mark.parametrize("threshold", [math.inf, -math.inf, 1])
def test_all_local_and_all_to_the_cloud_are_thresholds(folder, threshold):
    write_manifest(folder, CONTENT | {"score_threshold": threshold})
    assert read_manifest(folder)["score_threshold"] == threshold


@pytest.mark.parametrize("values", [[10, 20], [-1, 2**62], ["yes", "no"], ["a", "b"], None])
def test_the_labels_of_the_data_are_kept(folder, values):
    write_manifest(folder, CONTENT | {"class_values": values})
    assert read_manifest(folder)["class_values"] == values


def test_what_could_not_be_read_again_is_not_written(folder):
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match="class_values: expected values that differ"):
        write_manifest(folder, CONTENT | {"class_values": [1, 1]})
    assert (folder / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("table", [{}, {"weights": None}])
def test_a_table_that_lists_no_or_few_files_verifies_nothing_less(folder, table):
    table = {name: sha256(folder / name) for name in table}
    flip_a_bit(folder / "cloud" / "graph")
    forge(folder, lambda manifest: manifest | {"sha256": table})
    with pytest.raises(ValueError, match=r"cloud/graph is not listed in manifest\.json: delete it"):
        read_manifest(folder)


@pytest.mark.parametrize("name", [".DS_Store", "cloud/assets/words.txt"])
def test_a_file_that_came_later_is_named_with_the_remedy(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"")
    with pytest.raises(ValueError, match=f"{name} is not listed.*delete it, or save"):
        read_manifest(folder)


@pytest.mark.parametrize("target", ["outside", "artifact/cloud", "artifact/weights", "nowhere"])
@pytest.mark.parametrize("link", ["link", "cloud/link"])
def test_a_symbolic_link_is_refused_wherever_it_leads(folder, target, link):
    (folder.parent / "outside").mkdir()
    (folder / link).symlink_to(folder.parent / target)
    with pytest.raises(ValueError, match=f"{link} is a symbolic link"):
        read_manifest(folder)
    with pytest.raises(ValueError, match=f"{link} is a symbolic link"):
        write_manifest(folder, CONTENT)


def test_a_listed_file_replaced_by_a_link_to_its_twin_is_refused(folder):
    twin = shutil.copy(folder / "weights", folder.parent / "twin")
    (folder / "weights").unlink()
    (folder / "weights").symlink_to(twin)
    with pytest.raises(ValueError, match="weights is a symbolic link"):
        read_manifest(folder)


def test_a_pipe_is_refused_rather_than_waited_for(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(ValueError, match="pipe is no regular file"):
        read_manifest(folder)


def test_the_first_artefacts_of_schema_4_say_less_and_are_read(folder):
    def older(manifest):
        manifest = removed(changed(manifest, "schema", 4), "features.lossless")
        manifest = removed(manifest, "features.quantisation.bits")
        manifest = removed(manifest, "calibration.numbers.validation.disagreement")
        del manifest["plan"][0]["disagreement"]
        return manifest

    forge(folder, older)
    manifest = read_manifest(folder)
    assert manifest["schema"] == SCHEMA
    assert manifest["features"]["lossless"] is False
    assert manifest["features"]["quantisation"]["bits"] == 8
    assert manifest["plan"][0]["disagreement"] == 1.0  # nobody measured it


def test_a_manifest_of_schema_4_is_checked_as_well(folder):
    forge(folder, lambda manifest: manifest | {"schema": 4, "plan": 3, "calibration": [], "x": 1})
    with pytest.raises(ValueError, match=r"manifest\.json"):
        read_manifest(folder)


def test_the_manifest_on_disk_is_plain_json(folder):
    assert json.loads((folder / "manifest.json").read_text())["schema"] == SCHEMA

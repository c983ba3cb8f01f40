"""Outputs alone: two arrays of logits become a bank, a table, a certificate and a small file."""

import contextlib
import io
import resource
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import bank_of

from keras_ddnn.data.bank import Bank
from keras_ddnn.evaluation.report import Report
from keras_ddnn.labels.compare_outputs import split_parts
from keras_ddnn.labels.rule_file import load_rule
from keras_ddnn.rules.__main__ import main, read_outputs
from keras_ddnn.rules.calibration import for_local_fraction
from keras_ddnn.rules.inputs import HEAD_INPUTS

ROOT = Path(__file__).parent.parent


def two_networks(n=400, num_classes=3, seed=0):
    """Return logits of a weak and a strong network, whose sure answers are more often right."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % num_classes)
    truth = np.eye(num_classes)[labels]
    local = 1.5 * truth + rng.normal(size=truth.shape)
    cloud = 3.0 * truth + rng.normal(size=truth.shape)
    return local.astype(np.float32), cloud.astype(np.float32), labels


def arrays(**changed):
    local, cloud, labels = two_networks()
    split = np.where(np.arange(len(labels)) % 4 < 2, "val", "test")
    content = {"local_logits": local, "cloud_logits": cloud, "labels": labels, "split": split}
    return {name: array for name, array in (content | changed).items() if array is not None}


def write(path, **changed):
    np.savez(path, **arrays(**changed))
    return str(path)


class Tensor:
    """An array of another framework, which NumPy can read."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


class TestABankOfOutputs:
    @pytest.mark.parametrize(
        "convert", [np.float16, np.float32, np.float64, np.ndarray.tolist, Tensor], ids=str
    )
    def test_is_made_in_one_line_from_arrays_of_any_framework(self, convert):
        local, cloud, labels = two_networks()
        local, cloud = (np.round(8 * logits) / 8 for logits in (local, cloud))  # exact in float16
        bank = Bank.from_outputs({"local": convert(local), "cloud": convert(cloud)}, labels)
        for array, expected in ((bank.edge.outputs, local), (bank.cloud_logits, cloud)):
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, expected)
        np.testing.assert_array_equal(bank.labels, labels)
        assert bank.index.tolist() == list(range(len(labels)))

    def test_is_the_same_whichever_tier_is_named_first(self):
        local, cloud, labels = two_networks()
        bank = Bank.from_outputs({"cloud": cloud, "local": local}, labels)
        np.testing.assert_array_equal(bank.edge.outputs, local)

    def test_keeps_features_and_inputs_beside_the_logits(self):
        local, cloud, labels = two_networks(4)
        features = np.zeros((4, 2, 2, 1), np.float16)
        images = np.zeros((4, 16, 16, 3), np.uint8)
        bank = Bank.from_outputs({"local": local, "cloud": cloud}, labels, features, images)
        assert HEAD_INPUTS["features"](bank.edge) is features
        assert HEAD_INPUTS["image"](bank.edge) is images

    @pytest.mark.parametrize(
        ("head_input", "missing", "argument"),
        [
            ("features", "features", "features="),
            ("logits_features", "features", "features="),
            ("image", "inputs", "inputs="),
        ],
    )
    def test_says_what_a_head_misses(self, head_input, missing, argument):
        local, cloud, labels = two_networks()
        bank = Bank.from_outputs({"local": local, "cloud": cloud}, labels)
        with pytest.raises(ValueError, match=f"'{head_input}' expects {missing}.*{argument}"):
            HEAD_INPUTS[head_input](bank.edge)

    def test_lets_a_keras_head_learn_from_logits_and_refuses_one_that_reads_features(self):
        from keras_ddnn.config import HeadConfig
        from keras_ddnn.heads.fit import fit_head
        from keras_ddnn.labels.sources import Banks

        local, cloud, labels = two_networks()
        bank = Bank.from_outputs({"local": local, "cloud": cloud}, labels)
        banks = Banks(bank, bank)
        with pytest.raises(ValueError, match="'features' expects features beside the logits"):
            fit_head(banks, HeadConfig(input="features", architecture="conv"))
        assert fit_head(banks, HeadConfig(epochs=1)).score(bank.edge).shape == (400,)


LOCAL, CLOUD, LABELS = two_networks(12)
PROBABILITIES = np.exp(LOCAL) / np.exp(LOCAL).sum(axis=1, keepdims=True)


def changed(logits, place, value):
    logits = logits.astype(np.float64)
    logits[place] = value
    return logits


@pytest.mark.parametrize(
    ("outputs", "labels", "message"),
    [
        ({"local": LOCAL}, LABELS, "two tiers, or more.*received 'local'"),
        ({"edge": LOCAL, "cloud": CLOUD}, LABELS, "two tiers, or more.*received 'edge', 'cloud'"),
        ({"local": LOCAL, "fog": CLOUD[:9], "cloud": CLOUD}, LABELS, "fog logits: .* received 9"),
        ([LOCAL, CLOUD], LABELS, "two tiers, or more.*received list"),
        (
            {"local": changed(LOCAL, (3, 1), np.nan), "cloud": CLOUD},
            LABELS,
            "local logits: expected finite.*1 of 12 rows, first in row 3; leave",
        ),
        ({"local": LOCAL, "cloud": changed(CLOUD, (5, 0), -np.inf)}, LABELS, "np.maximum"),
        ({"local": changed(LOCAL, (7, 0), 1e300), "cloud": CLOUD}, LABELS, "first in row 7"),
        ({"local": LOCAL, "cloud": np.ones((12, 5), "f")}, LABELS, "3 classes as of local; .* 5;"),
        (
            {"local": LOCAL, "cloud": CLOUD[:9]},
            LABELS,
            "cloud logits: expected 12 rows.*received 9",
        ),
        ({"local": LOCAL, "cloud": CLOUD}, LABELS[:9], "labels: expected 12 rows.*received 9"),
        ({"local": LOCAL, "cloud": CLOUD}, LABELS + 1, r"expected 0\.\.2.*received 3.*from 0"),
        ({"local": LOCAL, "cloud": CLOUD}, LABELS - 1, r"expected 0\.\.2.*received -1"),
        ({"local": LOCAL, "cloud": CLOUD}, LABELS.astype(float), "expected integers.*astype"),
        ({"local": LOCAL, "cloud": CLOUD}, LABELS.astype(str), "expected integers.*return_inverse"),
        ({"local": LOCAL, "cloud": CLOUD}, np.eye(3)[LABELS], r"argmax\(axis=1\)"),
        (
            {"local": PROBABILITIES, "cloud": CLOUD},
            LABELS,
            r"local logits.*received prob.*np.log\(p\)",
        ),
        (
            {"local": LOCAL, "cloud": np.eye(3, dtype=np.float16)[LABELS]},
            LABELS,
            r"cloud logits.*received probabilities.*np.log\(np.maximum\(p, 1e-12\)\)",
        ),
        ({"local": LOCAL[:, 0], "cloud": CLOUD}, LABELS, r"received \(12,\).*np.stack"),
        ({"local": LOCAL[:0], "cloud": CLOUD[:0]}, LABELS[:0], r"received \(0, 3\)"),
        ({"local": LOCAL.argmax(1)[:, None], "cloud": CLOUD}, LABELS, "received int64; convert"),
        ({"local": [[1.0], [1.0, 2.0]], "cloud": CLOUD}, LABELS, "received list: "),
    ],
)
def test_outputs_that_are_no_two_sets_of_logits_are_refused_in_one_line(outputs, labels, message):
    with pytest.raises(ValueError, match=message) as refused:
        Bank.from_outputs(outputs, labels)
    assert "\n" not in str(refused.value)


def test_outputs_of_more_tiers_lie_between_the_two_ends():
    outputs = {"cloud": CLOUD, "fog": CLOUD + 1, "dusk": CLOUD + 2, "local": LOCAL}
    bank = Bank.from_outputs(outputs, LABELS)
    assert [*bank.tiers] == ["local", "fog", "dusk", "cloud"]
    np.testing.assert_array_equal(bank.tiers["fog"].outputs, CLOUD + 1)


@pytest.mark.parametrize("what", ["features", "inputs"])
def test_features_or_inputs_of_another_length_are_refused(what):
    with pytest.raises(ValueError, match=f"{what}: expected 12 rows.*received 5"):
        Bank.from_outputs({"local": LOCAL, "cloud": CLOUD}, LABELS, **{what: np.zeros((5, 2))})


@pytest.mark.parametrize("shift", [0.0, -3.0])
def test_logarithms_of_probabilities_are_logits(shift):
    logits = np.log(PROBABILITIES) + shift
    bank = Bank.from_outputs({"local": logits, "cloud": CLOUD}, LABELS)
    np.testing.assert_allclose(bank.edge.distribution.probabilities, PROBABILITIES, atol=1e-6)


def test_a_bank_without_features_is_saved_and_read_back(tmp_path):
    local, cloud, labels = two_networks()
    Bank.from_outputs({"local": local, "cloud": cloud}, labels).save(tmp_path / "bank.npz")
    bank = Bank.load(tmp_path / "bank.npz")
    assert bank.edge.features is bank.edge.inputs is None
    np.testing.assert_array_equal(bank.edge.outputs, local)
    np.testing.assert_array_equal(bank.cloud_logits, cloud)
    np.testing.assert_array_equal(bank.labels, labels)


def test_a_bank_with_features_is_read_back_without_its_images(tmp_path):
    bank = bank_of([[0.7, 0.3]] * 4, [[0.7, 0.3]] * 4, [0, 1, 0, 1])
    bank.save(tmp_path / "bank.npz")
    loaded = Bank.load(tmp_path / "bank.npz")
    assert loaded.edge.inputs is None
    np.testing.assert_array_equal(loaded.edge.features, bank.edge.features)


def test_rows_of_a_bank_keep_their_order_and_their_places():
    bank = bank_of([[0.7, 0.3]] * 4, [[0.7, 0.3]] * 4, [0, 1, 0, 1])
    part = bank.rows(np.array([3, 0]))
    assert part.index.tolist() == [3, 0]
    assert part.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(part.edge.inputs, bank.edge.inputs[[3, 0]])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of one run of the command, with its input, and what it has printed."""
    folder = tmp_path_factory.mktemp("finished")
    source = write(folder / "two_networks.npz")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        options = ["--max-drop", "0.2", "--local-fraction", "0.7"]
        assert main([source, "--output", str(folder / "out"), *options]) == 0
    return folder, printed.getvalue()


class TestTheCommand:
    def test_prints_table_diagnosis_certificate_and_threshold(self, finished):
        _, printed = finished
        for name in ("random", "entropy", "max_prob", "margin", "logit_head", "oracle"):
            assert f"\n{name} " in printed
        assert "\ndiagnosis: learning " in printed
        assert "\nrule: " in printed
        assert "\nthreshold: offload from a score of " in printed
        assert "\ncertificate: offload from a score of " in printed
        assert "accuracy is at most 20.00 points below the cloud's" in printed
        assert "100 samples teach logit_head and choose the rule, 100 others the th" in printed

    def test_leaves_a_rule_that_decides_of_new_logits(self, finished):
        path = finished[0] / "out" / "rule.json"
        rule = load_rule(path)
        local, _, _ = two_networks(3000, seed=7)
        low, high = rule.calibration.limits["local_fraction"]
        offloaded = rule.offload(local)
        assert low < 0.7 < high
        assert low < 1 - offloaded.mean() < high
        np.testing.assert_array_equal(offloaded, rule.score(local) >= rule.score_threshold)
        assert path.stat().st_size < 20_000

    def test_leaves_a_report_of_the_test_samples_that_the_figures_draw(self, finished):
        from figures.__main__ import main as draw

        folder = finished[0] / "out" / "report"
        report = Report.load(folder)
        rules = ["entropy", "logit_head", "margin", "max_prob", "oracle", "random"]
        assert sorted(report.table.rule) == sorted(report.curves) == rules
        assert report.facts["samples"] == 200
        assert report.facts["dataset"] == "two_networks"
        assert draw(["--results", str(folder)]) == 0
        assert (folder / "curve.png").stat().st_size > 10_000

    def test_chooses_everything_by_val_alone(self, finished, tmp_path):
        rng = np.random.default_rng(5)
        others = arrays()
        test = np.flatnonzero(others["split"] == "test")
        for name in ("local_logits", "cloud_logits"):
            others[name][test] = others[name][rng.permutation(test)]
        source = write(tmp_path / "two_networks.npz", **others)
        options = ["--max-drop", "0.2", "--local-fraction", "0.7"]
        assert main([source, "--output", str(tmp_path / "out"), *options]) == 0
        rules = [(folder / "out" / "rule.json").read_bytes() for folder in (finished[0], tmp_path)]
        assert rules[0] == rules[1]

    def test_chooses_thresholds_by_samples_that_neither_taught_nor_chose_the_rule(self, finished):
        local, cloud, labels = two_networks()
        bank = Bank.from_outputs({"local": local, "cloud": cloud}, labels)
        parts = split_parts(bank, arrays()["split"], seed=0)
        rows = [set(part.index) for part in (parts.first, parts.second, parts.test)]
        assert [len(part) for part in rows] == [100, 100, 200]
        assert len(set.union(*rows)) == 400
        rule = load_rule(finished[0] / "out" / "rule.json")
        scores = rule.score(parts.second.edge.outputs)
        expected = for_local_fraction(scores, parts.second, 0.7)
        assert rule.score_threshold == expected.score_threshold

    def test_draws_half_of_each_class_by_the_seed_where_there_is_no_split(self, caplog):
        local, cloud, labels = two_networks(402)
        bank = Bank.from_outputs({"local": local, "cloud": cloud}, labels)
        drawn = [split_parts(bank, None, seed) for seed in (0, 0, 1)]
        assert "201 of 402 samples are drawn as 'val' by seed 0" in caplog.messages[0]
        assert len(caplog.messages) == 3
        for parts in drawn:
            assert np.bincount(parts.test.labels).tolist() == [67, 67, 67]
        first = [parts.first.index.tolist() for parts in drawn]
        assert first[0] == first[1] != first[2]

    def test_keeps_the_rule_and_the_threshold_that_are_asked_for_in_its_own_folder(
        self, finished, tmp_path
    ):
        folder = tmp_path / "out"
        shutil.copytree(finished[0] / "out", folder)
        asked = ["--rule", "entropy", "--threshold", "accuracy_drop", "--max-drop", "0.3"]
        source = str(finished[0] / "two_networks.npz")
        assert main([source, "--output", str(folder), *asked]) == 0
        rule = load_rule(folder / "rule.json")
        assert rule.name == "entropy"
        assert rule.calibration.name == "accuracy_drop"
        assert rule.calibration.limits["accuracy_drop"] == (-1.0, 0.3)

    def test_spares_the_report_of_another(self, finished, tmp_path, capsys):
        folder = tmp_path / "out"
        shutil.copytree(finished[0] / "out" / "report", folder / "report")
        older = (folder / "report" / "report.json").read_bytes()
        source = str(finished[0] / "two_networks.npz")
        assert main([source, "--output", str(folder)]) == 2
        assert "expected a new folder" in capsys.readouterr().err
        assert (folder / "report" / "report.json").read_bytes() == older

    def test_names_arrays_that_it_does_not_read(self, tmp_path, caplog):
        read_outputs(Path(write(tmp_path / "o.npz", splits=np.zeros(3))))
        assert caplog.messages == ["o.npz: arrays that nobody reads are left out: splits"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"cloud_logits": None}, "expected arrays cloud_logits too; received local_logits, labels"),
        ({"labels": None, "local_logits": None}, "expected arrays local_logits, labels too"),
        ({"labels": np.array([None] * 400)}, "labels: expected a plain array"),
        ({"split": np.array(["val", {}] * 200)}, "split: expected a plain array"),
        ({"split": np.array(["val", "train"] * 200)}, "received 'train' in 200 rows"),
        ({"split": np.array([b"val", b"dev"] * 200)}, "received 'dev' in 200 rows"),
        ({"split": np.zeros(400, bool)}, "expected words of shape (400,)"),
        ({"split": np.array(["val", "test"])}, "split: expected 400 rows"),
        ({"split": np.array(["test"] * 400)}, "val: expected at least 2 samples of each"),
        ({"split": np.array(["val"] * 400)}, "test: expected at least 1 samples of each"),
        (
            {"split": np.where(two_networks()[2] == 2, "test", "val")},
            "val: expected at least 2 samples of each of the 3 classes; received 0 of class 2",
        ),
        (
            {"labels": np.arange(400) % 2, "split": None},
            "labels: expected at least 4 samples of each of the 3 classes; received 0 of class 2",
        ),
        ({"local_logits": np.full((400, 3), np.nan)}, "local logits: expected finite numbers"),
    ],
)
def test_bad_outputs_are_answered_in_one_line_before_anything_is_written(
    tmp_path, capsys, content, message
):
    assert main([write(tmp_path / "o.npz", **content), "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert not said.out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "damage", ["missing", "folder", "text", "npy", "truncated", "a bit", "raw"]
)
def test_a_file_that_is_no_whole_npz_is_answered_in_one_line(tmp_path, capsys, damage):
    path = tmp_path / "o.npz"
    content = bytearray(Path(write(path)).read_bytes())
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "text":
        path.write_text("local_logits,cloud_logits,labels\n")
    elif damage == "npy":
        with open(path, "wb") as file:
            np.save(file, two_networks()[0])
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "a bit":
        content[1000] ^= 1
        path.write_bytes(content)
    elif damage == "raw":
        with zipfile.ZipFile(path, "w") as archive:
            for name in arrays():
                archive.writestr(f"{name}.npy", b"not an array")
    assert main([str(path)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert not said.out


@pytest.mark.parametrize(
    "option",
    [
        ("--local-fraction", "1.5"),
        ("--max-drop", "0"),
        ("--delta", "nan"),
        ("--seed", "-1"),
    ],
)
def test_a_bad_option_is_answered_before_the_file_is_read(capsys, option):
    assert main(["missing.npz", *option]) == 2
    assert f"error: {option[0]} must" in capsys.readouterr().err


# The command as a user starts it, then the rule in a program, then what Python has loaded.
WITHOUT_TENSORFLOW = """
import runpy, sys
sys.argv[1:] = [{outputs!r}, "--output", {folder!r}]
try:
    runpy.run_module("keras_ddnn.rules", None, "__main__")
except SystemExit as end:
    assert end.code == 0
import keras_ddnn, numpy
rule = keras_ddnn.load_rule({folder!r} + "/rule.json")
decided = rule.offload(numpy.load({outputs!r})["local_logits"])
print("offloaded", decided.mean())
print(*sys.modules)
"""


def test_a_pair_of_scikit_learn_is_compared_in_seconds_without_tensorflow(tmp_path):
    outputs, folder = str(tmp_path / "digits.npz"), str(tmp_path / "out")
    example = runpy.run_path(str(ROOT / "examples" / "outputs_alone.py"))
    example["write_outputs"](outputs, train_share=0.2, rounds=3)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW.format(outputs=outputs, folder=folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    *lines, share, modules = run.stdout.splitlines()
    assert any(line.startswith("certificate: ") for line in lines)
    assert 0.3 < float(share.split()[1]) < 0.7
    loaded = {name.split(".")[0] for name in modules.split()}
    assert {"keras_ddnn", "sklearn"} <= loaded
    assert not loaded & {"tensorflow", "keras", "ray", "torch", "matplotlib"}
    # Seconds of a processor, which do not depend on what else the machine does.
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 10

"""A whole search by Ray Tune, on toy data: one run, examined from many sides."""

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from time import sleep

import numpy as np
import pandas as pd
import pytest
from conftest import flip_a_bit, toy_split, truncate

from keras_ddnn.data.datasets import load
from keras_ddnn.data.rows.computed import whole
from keras_ddnn.deploy import artifact
from keras_ddnn.evaluation.report import Report
from keras_ddnn.files.checksums import SEAL, sha256
from keras_ddnn.labels.sources import LABEL_SOURCES, VIEWS
from keras_ddnn.rules.confidence import CONFIDENCE_RULES
from keras_ddnn.rules.inputs import logits_plus
from keras_ddnn.training.fit import fit_ddnn
from tune.cache import backbone_key
from tune.driver import _without_backbone, run_search
from tune.space import SearchConfig
from tune.specs import DIMENSIONS, NetworkSpec
from tune.stored import StoredNetwork
from tune.workspace import Workspace

COLUMNS = DIMENSIONS[2:]  # the paper's network needs no name, and no layer to be cut at
FILES = {
    *(
        "search.json",
        "results.csv",
        "results.parquet",
        "curve.png",
        "plans.csv",
        "plans.png",
        "diagnosis.json",
        "diagnosis.png",
    ),
    *("report", "artifact", "tensorboard", "trials"),
}


@pytest.fixture(scope="module")
def toy_npz(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    splits = {"train": toy_split(384, 0), "val": toy_split(48, 1), "test": toy_split(80, 2)}
    arrays = {f"x_{what}": split.images for what, split in splits.items()}
    labels = {f"y_{what}": 10 * (1 + split.labels) for what, split in splits.items()}
    np.savez(path, **arrays, **labels)
    return str(path)


@pytest.fixture(scope="module")
def search(toy_npz):
    return SearchConfig(
        dataset=toy_npz,
        epochs=1,
        lambda_local=(0.3, 0.7),
        input=("features", "logits"),
        local_fraction=(0.3, 0.7),
    )


@pytest.fixture(scope="module")
def output(search, tmp_path_factory):
    """A finished search, which no test may change."""
    ray = pytest.importorskip("ray")
    # On one core, as other tests run on the other; the slow ones train side by side.
    yield run_search(search, tmp_path_factory.mktemp("run") / "out", num_cpus=1)
    ray.shutdown()


@pytest.fixture
def copy(output, tmp_path):
    """The finished search and its backbones, in folders a test may change."""
    shutil.copytree(output.parent, tmp_path / "run")
    return tmp_path / "run" / "out"


def row_of(trial):
    """Return the choices of a trial as a table has them."""
    choices = trial.choices()
    return tuple("none" if choices[name] is None else choices[name] for name in COLUMNS)


def backbones_of(output):
    return sorted((output.parent / "backbones").iterdir())


def workspace_of(search, output):
    return Workspace(load(search.dataset).fingerprint(), output.parent / "backbones", output)


def text_of(log, tag):
    """Return each text that the Text tab of TensorBoard shows of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(log)).Reload().Tensors(tag)
    return [event.tensor_proto.string_val[0].decode() for event in events]


def contents(folder):
    """Every file with its time: equal as long as nothing is written again."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


# --- what a search leaves behind ----------------------------------------------------------------


def test_one_backbone_is_trained_for_each_weight_and_seed(search, output):
    fingerprint = load(search.dataset).fingerprint()
    expected = {backbone_key(fingerprint, backbone) for backbone in search.backbones()}
    assert {folder.name for folder in backbones_of(output)} == expected
    assert len(expected) == 2
    for folder in backbones_of(output):
        files = {"ddnn.weights.h5", "train.npz", "val.npz", "test.npz", "backbone.json"}
        assert files <= {path.name for path in folder.iterdir()}


def test_features_are_kept_for_heads_that_read_them_and_not_in_the_banks(search, output):
    for folder in backbones_of(output):
        for name in ("train", "val", "test"):
            assert (
                set(np.load(folder / f"{name}.npz").files) & {"features", "local_features"} == set()
            )
        kept = {path.name for path in folder.glob("features_*")}
        assert {"features_train", "features_val"} <= kept


def test_no_feature_is_made_or_written_before_something_reads_it(search, copy):
    for folder in copy.parent.glob("backbones/*/features_*"):
        shutil.rmtree(folder)
    splits = load(search.dataset)
    workspace = Workspace(splits.fingerprint(), copy.parent / "backbones")
    stored = StoredNetwork.of(workspace, search.networks()[0], splits)
    logits_plus(stored.val_bank.edge)
    assert stored.val_bank.edge.features.shape == (48, 8, 8, 32)
    assert not [*stored.folder.glob("features_*")]
    features = whole(stored.val_bank.edge.features)
    assert isinstance(features, np.memmap)
    assert [path.name for path in stored.folder.glob("features_*")] == ["features_val"]
    few = stored.val_bank.rows(np.array([3, 5])).edge.features
    np.testing.assert_array_equal(np.asarray(few), features[[3, 5]])


def test_the_table_has_a_finished_row_a_trial_best_first(search, output):
    results = pd.read_csv(output / "results.csv")
    assert set(results["status"]) == {"finished"}
    assert results["val_audc"].is_monotonic_decreasing
    rows = {tuple(row) for row in results[list(COLUMNS)].itertuples(index=False)}
    assert rows == {row_of(trial) for trial in search.grid()}
    assert len(results) == len(rows) == 8


def test_both_tables_say_the_same(output):
    csv, parquet = pd.read_csv(output / "results.csv"), pd.read_parquet(output / "results.parquet")
    csv["lambda_local"] = csv["lambda_local"].astype(str)  # it may be "random"
    # Means that happen to be whole are written without a point.
    pd.testing.assert_frame_equal(csv, parquet, rtol=1e-6, check_dtype=False)


def test_no_number_of_the_test_data_is_in_the_table(output):
    columns = set(pd.read_csv(output / "results.csv").columns)
    facts = {"trial", "status", *DIMENSIONS, "epochs_run", "head_multiply_adds", "score_threshold"}
    assert {name for name in columns - facts if not name.startswith("val_")} == set()


def test_the_table_has_the_bytes_of_a_sample_beside_its_accuracies(output):
    results = pd.read_csv(output / "results.csv")
    assert set(results["val_bytes_sent"]) == {8 * 8 * 32 * 2}
    assert set(results["val_bytes_image"]) == {16 * 16 * 3}
    assert results["val_bytes_codes_zlib"].between(1, 8 * 8 * 32).all()
    assert results["val_bytes_image_png"].between(1, 2 * 16 * 16 * 3).all()
    assert results["val_cloud_accuracy"].between(0, 1).all()


def test_the_policy_answers_in_the_labels_of_the_data(search, output):
    policy = artifact.load_policy(output / "artifact")
    assert policy.class_names == ("10", "20", "30")
    answers, _ = policy.predict(load(search.dataset).test.images)
    assert set(answers.tolist()) <= {10, 20, 30}


def test_every_file_of_the_results_is_there(search, output):
    config = json.loads((output / "search.json").read_text())
    assert config.pop("sha256")
    assert SearchConfig(**config) == search
    assert (output / "curve.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert {path.name for path in output.iterdir()} == FILES


def test_tensorboard_has_a_log_of_every_backbone_and_trial(search, output):
    logs = {path.parent.relative_to(output) for path in output.rglob("events.out.tfevents.*")}
    runs = {path.parts[1] for path in logs if len(path.parts) > 1}
    workspace = workspace_of(search, output)
    trials = {workspace.log(trial).name for trial in search.grid()}
    assert len(trials) == 8
    assert runs == trials | {workspace.log(network).name for network in search.backbones()}
    assert max(map(len, runs)) < 20  # a longer one is broken over lines
    assert Path("tensorboard") in logs  # the figure and the columns of the HParams table


def test_the_text_of_a_run_tells_what_its_short_name_does_not(search, output):
    workspace = workspace_of(search, output)
    trial = search.grid()[-1]
    (head,), (network,) = (
        text_of(workspace.log(work), tag)
        for work, tag in ((trial, "head"), (trial.members[0], "network"))
    )
    assert f"| trial | `{workspace.key(trial)}` |" in head
    assert f"| networks | `{workspace.log(trial.members[0]).name}` |" in head
    assert "| local_fraction | `0.7` |" in head
    assert "| lambda_local | `0.7` |" in network


def test_the_curves_of_the_report_start_at_the_cloud_and_end_at_the_local_accuracy(output):
    report = Report.load(output / "report")
    assert {"features", "logits", "margin", "random", "oracle"} <= set(report.curves)
    assert set(report.curves.loc[0.0]) == {report.facts["cloud_accuracy"]}
    assert set(report.curves.loc[1.0]) == {report.facts["local_accuracy"]}


def test_the_best_trial_is_in_the_artifact(output):
    best = pd.read_csv(output / "results.csv").iloc[0]
    manifest = json.loads((output / "artifact" / "manifest.json").read_text())
    assert manifest["ddnn"]["lambda_local"] == best["lambda_local"]
    for name in ("input", "local_fraction", "depth", "loss"):
        assert manifest["rule"]["config"][name] == best[name]
    assert manifest["score_threshold"] == pytest.approx(best["score_threshold"])
    assert manifest["metrics"]["val_audc"] == pytest.approx(best["val_audc"])
    assert {"edge.tflite", "edge_int8.tflite", "cloud/saved_model.pb"} < set(manifest["sha256"])
    assert manifest["plan"]


DECIDE = """
import sys
import numpy as np
from keras_ddnn.deploy import artifact
images = np.load(sys.argv[2])["x_test"]
policy = artifact.load_policy(sys.argv[1])
np.savez(sys.argv[3], decisions=policy.decide(images), classes=policy.predict(images)[0])
"""


@pytest.mark.slow
def test_the_artifact_decides_the_same_in_another_process(search, output, tmp_path):
    arguments = [str(output / "artifact"), search.dataset, str(tmp_path / "there.npz")]
    subprocess.run([sys.executable, "-c", DECIDE, *arguments], check=True, timeout=120)
    there = np.load(tmp_path / "there.npz")
    images = load(search.dataset).test.images
    policy = artifact.load_policy(output / "artifact")
    np.testing.assert_array_equal(policy.decide(images), there["decisions"])
    np.testing.assert_array_equal(policy.predict(images)[0], there["classes"])
    assert 0 < there["decisions"].mean() < 1


# --- label sources -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged(search, output, tmp_path_factory):
    """A finished search over label sources, with anchored heads, which no test may change."""
    search = replace(search, input=("logits",), local_fraction=(0.3,), lambda_local=(0.3,))
    search = replace(search, labels=("held_out", "stage_averaged"), anchored=(True,))
    return search, run_search(search, tmp_path_factory.mktemp("judged") / "out")


@pytest.mark.slow
def test_what_the_label_sources_need_is_kept_beside_the_backbones(judged):
    search, output = judged
    fingerprint = load(search.dataset).fingerprint()
    deployed, fold = (
        output.parent / "backbones" / backbone_key(fingerprint, backbone)
        for backbone in search.backbones()
    )
    assert set(backbones_of(output)) == {deployed, fold}
    assert (deployed / "stages.npz").exists()
    files = {"judgement.npz", "backbone.json", "sha256.json"}
    assert {path.name for path in fold.iterdir()} == files


@pytest.mark.slow
def test_a_search_compares_label_sources(judged):
    search, output = judged
    results = pd.read_csv(output / "results.csv")
    assert set(results["status"]) == {"finished"}
    assert set(results["labels"]) == set(search.labels)
    assert results["val_gain_over_margin"].min() > -1e-3  # an anchored head is no worse


@pytest.mark.slow
def test_a_stored_backbone_teaches_what_the_fitted_one_would(judged, tmp_path):
    search, output = judged
    splits = load(search.dataset)
    images = {name: getattr(splits, name).images for name in ("train", "val")}
    config = search.backbones()[0].ddnn
    root = shutil.copytree(output.parent / "backbones", tmp_path / "backbones")
    workspace = Workspace(splits.fingerprint(), root)
    stored = StoredNetwork(workspace, (NetworkSpec(config),), images, splits.num_classes)
    fitted = fit_ddnn(splits.train, splits.val, config, verbose=0)
    for source in LABEL_SOURCES.keys() - {"cross_fitted"}:
        there, here = (
            LABEL_SOURCES[source].training_data(backbone) for backbone in (stored, fitted)
        )
        for name in ("index", "labels", "cloud_logits"):
            np.testing.assert_array_equal(
                getattr(there.labels_bank, name), getattr(here.labels_bank, name)
            )
        for name in ("outputs", "features", "inputs"):
            np.testing.assert_array_equal(
                getattr(there.bank.edge, name), getattr(here.bank.edge, name)
            )
    before = contents(root)  # with the views, which were captured when first asked for
    stored.augmented_bank(VIEWS)
    assert contents(root) == before
    assert (stored.folder / f"augmented{VIEWS}" / "bank.npz") in before


@pytest.mark.slow
def test_the_artifact_of_an_anchored_head_keeps_its_anchor(judged):
    best = pd.read_csv(judged[1] / "results.csv").iloc[0]
    rule = artifact.load_policy(judged[1] / "artifact").rule
    assert rule.config.labels == best["labels"]
    assert rule.anchor.rule in CONFIDENCE_RULES
    assert rule.multiply_adds == best["head_multiply_adds"]


# --- again --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_same_search_from_nothing_gives_the_same_table(judged, tmp_path):
    search, output = judged
    again = run_search(search, tmp_path / "out")
    assert (again / "results.csv").read_bytes() == (output / "results.csv").read_bytes()


def forget_a_trial(output):
    """Delete what is kept of a finished trial; return its key."""
    lost = pd.read_csv(output / "results.csv")["trial"][3]
    (output / "trials" / f"{lost}.json").unlink()
    shutil.rmtree(output / "trials" / lost)
    return lost


@pytest.mark.slow
def test_resuming_repeats_only_what_is_missing(search, copy):
    lost = forget_a_trial(copy)
    table = (copy / "results.csv").read_bytes()
    before = contents(copy / "trials") | contents(copy.parent / "backbones")

    run_search(search, copy, resume=True)

    after = contents(copy / "trials") | contents(copy.parent / "backbones")
    assert after.items() > before.items()
    written = {path.relative_to(copy / "trials").parts[0] for path in after.keys() - before.keys()}
    assert written == {lost, f"{lost}.json"}
    assert (copy / "results.csv").read_bytes() == table


def seal_anew(folder):
    hashes = json.loads((folder / SEAL).read_text())
    (folder / SEAL).write_text(json.dumps({name: sha256(folder / name) for name in hashes}))


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip_a_bit, truncate])
def test_damaged_files_are_set_aside_and_made_again(search, copy, damage):
    table = (copy / "results.csv").read_bytes()
    first, second = pd.read_csv(copy / "results.csv")["trial"][:2]
    backbone = backbones_of(copy)[0]
    for file in (
        copy / "search.json",
        copy / "results.csv",
        copy / "trials" / f"{first}.json",
        copy / "trials" / second / "head.weights.h5",
        backbone / "train.npz",
    ):
        damage(file)
    with pytest.warns(UserWarning, match="set aside"):
        run_search(search, copy, resume=True)
    assert (copy / "results.csv").read_bytes() == table
    aside = {path.name for path in copy.parent.rglob("*.damaged")}
    assert aside == {f"{first}.json.damaged", f"{second}.json.damaged", f"{backbone.name}.damaged"}


def test_trials_of_a_backbone_that_failed_are_rows_with_its_reason(search):
    lost = search.backbones()[0]
    rows = _without_backbone(search, Workspace("f00d", Path()), {lost: "OutOfMemoryError: killed"})
    assert {row["lambda_local"] for row in rows.values()} == {lost.ddnn.lambda_local}
    assert len(rows) == len(search.grid()) / 2
    reasons = {row["reason"] for row in rows.values()}
    assert reasons == {f"no backbone {lost.name()}: OutOfMemoryError: killed"}
    assert _without_backbone(search, Workspace("f00d", Path()), {}) == {}


@pytest.mark.slow
def test_a_trial_that_fails_is_a_row_with_its_reason(search, copy, tmp_path):
    for folder in backbones_of(copy):
        if json.loads((folder / "backbone.json").read_text())["ddnn"]["lambda_local"] == 0.7:
            (folder / "train.npz").write_bytes(b"no archive")
            seal_anew(folder)  # as if it had been written so: damage alone would be mended
    search = replace(search, input=("logits",), local_fraction=(0.3,))
    failing = run_search(search, tmp_path / "out", backbones=copy.parent / "backbones")
    results = pd.read_csv(failing / "results.csv").set_index("lambda_local")
    assert results["status"].to_dict() == {0.3: "finished", 0.7: "failed"}
    assert "train.npz is not a saved bank" in results.loc[0.7, "reason"]


@contextmanager
def every_trial_killed():
    """Kill each worker that computes a trial, as the kernel does where memory runs out."""
    psutil = pytest.importorskip("psutil")
    ended, killed = Event(), []

    def kill():
        while not ended.wait(0.05):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if process.cmdline()[:1] == ["ray::ImplicitFunc.train"]:
                        process.kill()
                        killed.append(process.pid)

    thread = Thread(target=kill)
    thread.start()
    yield killed
    ended.set()
    thread.join()


@pytest.mark.slow
def test_a_trial_whose_worker_is_killed_is_a_row_with_its_reason(search, copy):
    lost = forget_a_trial(copy)
    with every_trial_killed() as killed:
        run_search(search, copy, resume=True)
    results = pd.read_csv(copy / "results.csv").set_index("trial")
    assert len(set(killed)) == 2  # it was tried once more, and no more
    assert results["status"].eq("finished").sum() == len(search.grid()) - 1
    assert results.loc[lost, "status"] == "failed"
    assert "died" in results.loc[lost, "reason"].lower()


@pytest.mark.slow
def test_a_backbone_that_fails_is_named_with_its_reason(search, tmp_path):
    (tmp_path / "backbones").touch()
    with pytest.raises(RuntimeError, match=r"lambda0\.\d-seed0 failed: FileExistsError: .*exists"):
        run_search(search, tmp_path / "out")


@pytest.mark.slow
def test_a_search_that_is_terminated_leaves_neither_ray_nor_half_a_backbone(search, tmp_path):
    psutil = pytest.importorskip("psutil")
    command = [sys.executable, "-m", "tune.search", "--dataset", search.dataset, "--epochs", "999"]
    backbones = tmp_path / "backbones"
    with subprocess.Popen([*command, "--output", str(tmp_path / "out")]) as running:
        for _ in range(600):
            if backbones.exists() and any(backbones.iterdir()):
                break
            sleep(0.1)
        started = psutil.Process(running.pid).children(recursive=True)
        assert any("raylet" in process.name() for process in started)
        running.terminate()
        assert running.wait(30) == 143
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not alive
    assert list(backbones.iterdir()) == []


# --- the map that is sent -----------------------------------------------------------------------


@pytest.mark.slow
def test_a_search_compares_bottlenecks(search, output, tmp_path):
    search = replace(search, bottleneck=(None, 2), input=("logits",), lambda_local=(0.3,))
    found = run_search(search, tmp_path / "out", backbones=output.parent / "backbones")
    sent = pd.read_csv(found / "results.csv").groupby("bottleneck")["val_bytes_sent"].agg(set)
    assert sent.to_dict() == {"none": {8 * 8 * 32 * 2}, "2": {4 * 4 * 2 // 2}}
    before = contents(output.parent / "backbones")
    table = (found / "results.csv").read_bytes()
    run_search(search, found, backbones=output.parent / "backbones", resume=True)
    assert contents(output.parent / "backbones") == before
    assert (found / "results.csv").read_bytes() == table


# --- searchers and schedulers -------------------------------------------------------------------


@pytest.mark.slow
def test_the_random_searcher_runs_the_trials_it_has_drawn(search, output, tmp_path):
    search = replace(search, searcher="random", trials=3, input=("logits",), depth=(1, 2))
    found = run_search(search, tmp_path / "out", backbones=output.parent / "backbones")
    results = pd.read_csv(found / "results.csv")
    drawn = {row_of(trial) for trial in search.sample()}
    assert {tuple(row) for row in results[list(COLUMNS)].itertuples(index=False)} == drawn
    assert set(results["status"]) == {"finished"}


@pytest.mark.slow
def test_optuna_goes_on_from_what_it_has_found(search, output, tmp_path):
    # "conv" means "mlp" on the logits: what is recorded lies outside the space.
    search = replace(search, searcher="optuna", trials=3, input=("logits",), depth=(1, 2, 3, 4))
    search = replace(search, architecture=("conv",))
    backbones = output.parent / "backbones"
    found = run_search(search, tmp_path / "out", backbones=backbones)
    results = pd.read_csv(found / "results.csv")
    assert list(results["status"]) == ["finished"] * 3
    assert set(results["architecture"]) == {"mlp"}

    lost = results["trial"][0]
    (found / "trials" / f"{lost}.json").unlink()
    shutil.rmtree(found / "trials" / lost)
    before = contents(found / "trials")
    run_search(search, found, backbones=backbones, resume=True)
    assert before.items() <= contents(found / "trials").items()


@pytest.mark.slow
def test_a_trial_that_asha_stops_is_a_row_of_its_own(search, output, tmp_path):
    search = replace(search, scheduler="asha", input=("logits",), depth=(1, 2, 3, 4))
    found = run_search(search, tmp_path / "out", backbones=output.parent / "backbones")
    results = pd.read_csv(found / "results.csv")
    stopped = results[results["status"] == "stopped"]
    assert set(results["status"]) == {"finished", "stopped"}
    assert len(results) == len(search.grid())
    assert set(stopped["reason"]) == {"stopped early"}
    assert stopped["val_audc"].between(0, 1).all()
    assert not any((found / "trials" / key).exists() for key in stopped["trial"])

"""Numbers, and classes with prices, from an artefact to two machines; most of it worked by hand."""

import json
import shutil
import socket
from dataclasses import replace

import httpx
import keras
import numpy as np
import pytest
from conftest import toy_split
from keras import layers
from PIL import Image
from toy_manifest import CONTENT, changed, forge
from toy_service import INFER, SERVED, Server

from keras_ddnn.config import HeadConfig
from keras_ddnn.data.classes import Classes
from keras_ddnn.deploy.artifact import load_policy, require_keepable, save_policy
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.deploy.tiers import load_tiers, save_tiers
from keras_ddnn.files.fields.content import check_content
from keras_ddnn.files.fields.tasks import TASKS as FIELDS_OF_TASKS
from keras_ddnn.files.manifest import SCHEMA, read_manifest, require_next
from keras_ddnn.heads.fit import fit_head
from keras_ddnn.labels.sources import Banks
from keras_ddnn.networks.architectures.named_models import named_model
from keras_ddnn.networks.cascade import Cascade, as_cascade
from keras_ddnn.networks.compose import chain, split
from keras_ddnn.rules.confidence import Gate, Margin, Random, Width
from keras_ddnn.rules.prices import for_price
from keras_ddnn.serve.cloud.network import load_cloud
from keras_ddnn.serve.cloud.service import make_app
from keras_ddnn.serve.drift.guard import DriftGuard
from keras_ddnn.serve.edge.__main__ import main
from keras_ddnn.serve.edge.runtime import EdgeRuntime
from keras_ddnn.serve.edge.telling.view import read_images
from keras_ddnn.serve.protocol.wire import Tensor, encode
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.known import TASKS, in_words, task_from_json
from keras_ddnn.tasks.prices import PricedClasses
from keras_ddnn.tasks.regression import Regression
from keras_ddnn.training.capture import capture

CLOSE = 1e-4  # of a score to the threshold, where two machines may decide otherwise
QUANTILES = Regression(quantiles=(0.1, 0.5, 0.9), level=0.9, over=1, under=2, penalty=5)
NAMES = ("quantile 0.1", "quantile 0.5", "quantile 0.9")
# No answer costs 0.3, a wrong one 1: a class is answered from a probability of 0.7 on.
REFUSALS = PricedClasses.with_refusal([[0, 1], [1, 0]], 0.3)


def of_columns(task, columns: int) -> Cascade:
    """Return a network that passes on: its inputs are the local and the cloud's outputs."""
    all_of_them = np.eye(2 * columns, dtype=np.float32)
    table = keras.Input((2 * columns,))
    dense = {"sent": layers.Dense(2 * columns, use_bias=False, name="sent")}
    sent = dense["sent"](table)
    kept = {"sent": all_of_them}
    kept |= {"local": all_of_them[:, :columns], "cloud": all_of_them[:, columns:]}
    dense |= {name: layers.Dense(columns, use_bias=False, name=name) for name in ("local", "cloud")}
    outputs = {name: dense[name](sent) for name in ("local", "cloud")}
    for name, weights in kept.items():
        dense[name].set_weights([weights])
    return Cascade(keras.Model(table, outputs, name="ddnn"), ("sent",), task)


# Quantiles of four demands. The answer is the last; wider than 5 is sent.
#
# | sample | local         | width | cloud      | answer     | demand | its cost    |
# |--------|---------------|-------|------------|------------|--------|-------------|
# | 0      | 1, 2, 3       | 2     | 1, 2, 4    | 3, local   | 3      | 0           |
# | 1      | 0, 5, 10      | 10    | 6, 7, 8    | 8, cloud   | 6      | 2           |
# | 2      | 4, 4.5, 5     | 1     | 4, 4, 4    | 5, local   | 6      | 5 + 2·1 = 7 |
# | 3      | -2, 4, 16     | 18    | 9, 10, 12  | 12, cloud  | 9      | 3           |
DEMANDS = np.array(
    [
        [1, 2, 3, 1, 2, 4],
        [0, 5, 10, 6, 7, 8],
        [4, 4.5, 5, 4, 4, 4],
        [-2, 4, 16, 9, 10, 12],
    ],
    np.float32,
)
TRUTH = np.array([3.0, 6.0, 6.0, 9.0])

# Probabilities p of an alarm; the classes are as close as 1 - |1 - 2p|, and from 0.7 on it is sent.
#
# | sample | local | closeness | cloud | answer         | without the cloud |
# |--------|-------|-----------|-------|----------------|-------------------|
# | 0      | 0.6   | 0.8       | 0.9   | alarm, cloud   | none              |
# | 1      | 0.2   | 0.4       | 0.5   | calm, local    | calm              |
# | 2      | 0.1   | 0.2       | 0.4   | calm, local    | calm              |
# | 3      | 0.5   | 1         | 0.6   | none, cloud    | none              |
ALARMS = np.array([[0.6, 0.9], [0.2, 0.5], [0.1, 0.4], [0.5, 0.6]])


def logits_of(p: np.ndarray) -> np.ndarray:
    """Return local and cloud logits (n, 4) of two probabilities of the second class, (n, 2)."""
    return np.log(np.stack([1 - p, p], axis=2)).reshape(len(p), 4).astype(np.float32)


def of_quantiles():
    network = of_columns(QUANTILES, 3)
    policy = OffloadPolicy(network, None, Width(), 5.0, NAMES)
    return policy, DEMANDS, capture(network, DEMANDS, TRUTH)


def of_refusals():
    network, inputs = of_columns(REFUSALS, 2), logits_of(ALARMS)
    classes = Classes(("calm", "alarm"))
    policy = OffloadPolicy(network, None, Margin(), 0.7, classes.names, classes=classes)
    return policy, inputs, capture(network, inputs, np.array([1, 0, 0, 1]))


def of_one_number():
    """Return a policy whose rule is learned, as one number says nothing of how sure it is."""
    keras.utils.set_random_seed(0)
    table = keras.Input((6,))
    x = layers.Dense(4, activation="relu", name="hidden")(table)
    model = keras.Model(table, layers.Dense(1)(layers.Dense(8, activation="relu")(x)))
    network = split(model, "hidden", task=Regression("absolute"))
    inputs = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    bank = capture(network, inputs, inputs.sum(axis=1))
    config = HeadConfig(input="logits", target="benefit", cost="absolute", anchored=False, epochs=1)
    rule = fit_head(Banks(bank, bank), config)
    threshold = float(np.median(rule.score(bank.edge)))
    return OffloadPolicy(network, None, rule, threshold, ("number",)), inputs, bank


MAKERS = {"quantiles": of_quantiles, "refusals": of_refusals, "one number": of_one_number}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Return what makes a kind's policy, artefact, inputs and bank, once."""
    made = {}

    def make(kind):
        if kind not in made:
            policy, inputs, bank = MAKERS[kind]()
            folder = tmp_path_factory.mktemp("kept") / "artifact"
            save_policy(policy, folder, val_bank=bank)
            made[kind] = policy, folder, inputs, bank
        return made[kind]

    return make


@pytest.fixture(params=MAKERS)
def served(request, kept):
    return kept(request.param)


def unused_url() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def asked(folder, inputs, **options):
    """Return what a device says of inputs that asks the service of its own artefact."""
    network, manifest, identity = load_cloud(folder)
    with (
        Server(make_app(network, manifest, identity=identity)) as port,
        EdgeRuntime(folder, f"http://127.0.0.1:{port}", deadline_s=30.0, **options) as device,
    ):
        return device.predict(inputs)


# --- one policy, in memory, from its artefact and on two machines ---------------------------------


def test_an_artefact_answers_as_the_policy_that_was_saved(served):
    policy, folder, inputs, _ = served
    loaded = load_policy(folder)
    assert loaded.cascade.task == policy.cascade.task
    for there, here in zip(loaded.predict(inputs), policy.predict(inputs)):
        np.testing.assert_array_equal(there, here)


def test_two_machines_answer_as_the_policy_in_memory(served):
    policy, folder, inputs, bank = served
    answer = asked(folder, inputs)
    answers, offloaded = policy.predict(inputs)
    assert not answer.fallback.any()
    assert 0 < offloaded.sum() < len(offloaded)
    np.testing.assert_allclose(answer.scores, policy.rule.score(bank.edge), atol=CLOSE)
    far = np.abs(answer.scores - policy.score_threshold) > CLOSE
    assert far.mean() > 0.9
    np.testing.assert_array_equal(answer.offloaded[far], offloaded[far])
    assert answer.classes.dtype == answers.dtype
    if answers.dtype == object:
        assert answer.classes[far].tolist() == answers[far].tolist()
    else:
        np.testing.assert_allclose(answer.classes[far], answers[far], atol=1e-5)


def test_codes_of_the_coarse_graph_answer_nearly_the_same(kept):
    _, folder, inputs, _ = kept("quantiles")
    answer = asked(folder, inputs, graph="int8")
    assert answer.offloaded.tolist() == [False, True, False, True]
    np.testing.assert_allclose(answer.classes, [3, 8, 5, 12], atol=0.2)  # codes of 18/255


def test_without_a_cloud_the_local_network_answers_and_says_so(served):
    policy, folder, inputs, bank = served
    task = policy.cascade.task
    with EdgeRuntime(folder, unused_url()) as device:
        answer = device.predict(inputs)
    np.testing.assert_array_equal(answer.fallback, policy.decide(inputs))
    assert set(answer.causes[answer.fallback]) == {"connection"}
    expected = policy.classes.decode(task.answers(bank.edge.outputs), task.refusal)
    if expected.dtype == object:
        assert answer.classes.tolist() == expected.tolist()
    else:
        np.testing.assert_allclose(answer.classes, expected, atol=1e-5)


def test_the_answer_is_the_quantile_of_the_level_from_either_machine(kept):
    policy, folder, inputs, _ = kept("quantiles")
    numbers, offloaded = policy.predict(inputs)
    assert numbers.dtype == np.float64
    assert numbers.tolist() == [3, 8, 5, 12]
    assert offloaded.tolist() == [False, True, False, True]
    answer = asked(folder, inputs)
    assert answer.classes.tolist() == [3, 8, 5, 12]
    assert answer.scores.tolist() == [2, 10, 1, 18]


def test_a_refusal_is_made_on_the_device_of_local_logits_and_of_the_cloud_s(kept):
    policy, folder, inputs, _ = kept("refusals")
    assert policy.predict(inputs)[0].tolist() == ["alarm", "calm", "calm", None]
    answer = asked(folder, inputs)
    assert answer.classes.tolist() == ["alarm", "calm", "calm", None]
    assert answer.tiers.tolist() == [1, 0, 0, 1]
    with EdgeRuntime(folder) as device:
        alone = device.predict(inputs)
    assert alone.classes.tolist() == [None, "calm", "calm", None]
    assert alone.fallback.tolist() == [True, False, False, True]


def test_a_device_may_be_linear(tmp_path):
    keras.utils.set_random_seed(0)
    table = keras.Input((6,))
    hidden = layers.Dense(4, activation="relu")(table)
    models = {"local": layers.Dense(3)(table), "cloud": layers.Dense(3)(hidden)}
    models = {name: keras.Model(table, output) for name, output in models.items()}
    network = chain(models, task=QUANTILES)
    bank = capture(network, DEMANDS, TRUTH)
    policy = OffloadPolicy(network, None, Width(), np.inf, NAMES)
    save_policy(policy, tmp_path / "artifact", val_bank=bank)
    with EdgeRuntime(tmp_path / "artifact", graph="int8") as device:
        answer = device.predict(DEMANDS)
    np.testing.assert_allclose(answer.classes, policy.predict(DEMANDS)[0], rtol=1e-5)


@pytest.mark.parametrize("name", ["tcn_small", "lstm_small"])
def test_a_network_of_series_runs_on_a_device(name, tmp_path):
    keras.utils.set_random_seed(0)
    network = split(named_model(name, (8, 5), 3), "block_0", task=QUANTILES)
    windows = np.random.default_rng(0).normal(size=(9, 8, 5)).astype(np.float32)
    bank = capture(network, windows, np.zeros(9))
    scores = Width().score(bank.edge)
    policy = OffloadPolicy(network, None, Width(), float(np.median(scores)), NAMES)
    save_policy(policy, tmp_path / "artifact")
    with EdgeRuntime(tmp_path / "artifact") as device:
        answer = device.predict(windows)
    np.testing.assert_allclose(answer.scores, scores, atol=1e-4)
    np.testing.assert_allclose(answer.logits, bank.edge.outputs, atol=1e-4)
    far = np.abs(scores - policy.score_threshold) > CLOSE
    network, manifest, _ = load_cloud(tmp_path / "artifact")
    assert manifest["task"]["config"]["level"] == 0.9
    said = network(bank.edge.features)
    np.testing.assert_allclose(said, bank.tiers["cloud"].outputs, atol=1e-4)
    np.testing.assert_array_equal(answer.offloaded[far], policy.decide(windows)[far])


@pytest.mark.slow
def test_an_anchored_head_of_quantiles_scores_alike_on_a_device(tmp_path):
    rng, network = np.random.default_rng(0), of_columns(QUANTILES, 3)
    inputs = rng.normal(size=(60, 6)).astype(np.float32)
    bank = capture(network, inputs, rng.normal(size=60))
    config = HeadConfig(input="logits", target="benefit", cost="provisioning", epochs=1)
    rule = fit_head(Banks(bank, bank), config)
    assert rule.anchor.rule == "width"
    rule.anchor = replace(rule.anchor, weight=0.5)  # as if validation data supported half of it
    save_policy(OffloadPolicy(network, None, rule, 0.0, NAMES), tmp_path / "artifact")
    with EdgeRuntime(tmp_path / "artifact") as device:
        scores = device.predict(inputs).scores
    np.testing.assert_allclose(scores, rule.score(bank.edge), atol=CLOSE)
    assert load_policy(tmp_path / "artifact").rule.anchor == rule.anchor


# --- what an artefact keeps and refuses ----------------------------------------------------------


def test_the_manifest_of_plain_classes_names_no_task(tmp_path):
    network = of_columns(CLASSIFICATION, 2)
    policy = OffloadPolicy(network, None, Margin(), 0.7, ("calm", "alarm"))
    save_policy(policy, tmp_path / "artifact")
    assert "task" not in read_manifest(tmp_path / "artifact")
    assert load_policy(tmp_path / "artifact").cascade.task is CLASSIFICATION
    answer = asked(tmp_path / "artifact", logits_of(ALARMS))
    assert answer.classes.tolist() == [1, 0, 0, 1]


def test_the_table_of_tasks_knows_what_is_written():
    assert set(FIELDS_OF_TASKS) == set(TASKS)


def test_prices_of_the_network_of_the_paper_are_kept(toy_policy, tmp_path):
    task = PricedClasses.with_refusal(1 - np.eye(3), 0.5)
    cascade = replace(as_cascade(toy_policy.model), task=task)
    classes, images = Classes(("a", "b", "c")), toy_split(40, 3).images
    policy = replace(toy_policy, model=cascade, classes=classes)
    save_policy(policy, tmp_path / "artifact", graphs=False)
    loaded = load_policy(tmp_path / "artifact")
    answers = policy.predict(images)[0].tolist()
    assert loaded.predict(images)[0].tolist() == answers
    assert 0 < answers.count(None) < 40


def test_a_threshold_by_price_is_kept_with_what_it_does(kept, tmp_path):
    policy, _, _, bank = kept("refusals")
    scores = policy.rule.score(bank.edge)
    limits = {0: (0.5, 1.0)}
    calibration = for_price(scores, bank, 0.1, classes=bank.targets, limits=limits)
    save_policy(policy, tmp_path / "artifact", calibration=calibration, graphs=False)
    numbers = read_manifest(tmp_path / "artifact")["calibration"]["numbers"]
    assert numbers["options"]["limits"] == {"0": [0.5, 1.0]}
    assert {"cost", "cost_increase", "price"} < set(numbers["validation"])


def test_the_plan_tells_mean_costs(kept):
    plan = read_manifest(kept("quantiles")[1])["plan"]
    # Everything sent: 4, 8, 4 and 12 for 3, 6, 6 and 9 cost 1, 2, 5 + 2·2 and 3.
    assert plan[0]["local_fraction"] == 0
    assert plan[0]["cost"] == (1 + 2 + 9 + 3) / 4
    (half,) = {point["cost"] for point in plan if point["local_fraction"] == 0.5}
    assert half == (0 + 2 + 7 + 3) / 4
    assert not any("accuracy" in point for point in plan)


def test_the_model_card_says_what_is_answered(kept):
    card = {kind: (kept(kind)[1] / "README.md").read_text() for kind in MAKERS}
    assert "| outputs | quantile 0.1, quantile 0.5, quantile 0.9 |" in card["quantiles"]
    assert "| answer | the quantile 0.9 |" in card["quantiles"]
    assert "mean provisioning cost (lower is better)" in card["quantiles"]
    assert "numbers, offloaded = policy.predict(inputs)" in card["one number"]
    assert "| answer | the number itself |" in card["one number"]
    assert "| classes | calm, alarm |" in card["refusals"]
    assert "gets no answer, None, where that is cheapest" in card["refusals"]
    for kind in ("quantiles", "one number"):
        assert "Every sample gets a number" in card[kind]
        assert "class" not in card[kind].replace("classes, tokens", "")


@pytest.mark.parametrize("columns", [1, 3])
def test_numbers_can_be_asked_about_before_training(columns):
    task = QUANTILES if columns == 3 else Regression("squared")
    require_keepable(of_columns(task, columns))


def test_three_tiers_of_numbers_are_kept_and_read_together(tmp_path):
    keras.utils.set_random_seed(0)
    table = keras.Input((6,))
    x = layers.Dense(4, activation="relu", name="first")(table)
    x = layers.Dense(4, activation="relu", name="second")(x)
    model = keras.Model(table, layers.Dense(3)(x))
    network = split(model, ["first", "second"], task=QUANTILES)
    later = [Gate(Width(), 0.3)]
    policy = OffloadPolicy(network, None, Width(), 0.3, NAMES, later=later)
    save_tiers(policy, tmp_path / "tiers", graphs=False)
    hops = load_tiers(tmp_path / "tiers")
    assert [hop.cascade.task for hop in hops] == [QUANTILES] * 2
    first, second = (read_manifest(tmp_path / "tiers" / name) for name in "01")
    require_next(first, second)
    other = changed(second, "task.config.level", 0.5)
    with pytest.raises(ValueError, match="an artefact of the next two tiers, of task"):
        require_next(first, other)


TASK = {"name": "regression", "config": QUANTILES.get_config()}
PRICED = {"name": "priced_classes", "config": {"prices": [[0, 1], [1, 0]]}}
WRONG_IN_TABLE = [
    ({"name": "ranking", "config": {}}, "task.name: expected one of classification, priced"),
    ({"name": "regression"}, "task.config: expected this field"),
    (changed(TASK, "config.over", -1), r"task.config.over: expected a number in \(0"),
    (TASK | {"config": TASK["config"] | {"code": "x"}}, "task.config: expected only .*'code'"),
    (TASK, "class_names: expected one for each of 3 outputs of the task 'regression'; received 2"),
    (changed(PRICED, "config.prices", [[0, 1]] * 3), "one for each of 3 outputs"),
    (PRICED, r"plan\[0\]: expected the cost of the task 'priced_classes'"),
    (changed(PRICED, "config.prices.0.1", -1), r"prices\[0\]\[1\]: expected a number in \[0"),
]


@pytest.mark.parametrize(("task", "message"), WRONG_IN_TABLE)
def test_a_made_up_task_is_refused_by_the_table_in_one_line(task, message):
    content = CONTENT | {"schema": SCHEMA, "sha256": {}, "task": json.loads(json.dumps(task))}
    with pytest.raises(ValueError, match=message) as refused:
        check_content(content)
    assert "\n" not in str(refused.value)


def test_a_mean_cost_is_not_told_of_plain_classes():
    point = {"score_threshold": 0.5, "local_fraction": 0.5, "cost": 0.8, "disagreement": 0.2}
    content = CONTENT | {"schema": SCHEMA, "sha256": {}, "plan": [point]}
    with pytest.raises(ValueError, match=r"plan\[0\]: expected the accuracy of the task 'class"):
        check_content(content)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("task.config.quantiles", [0.9, 0.5, 0.1], "task 'regression': quantiles must rise"),
        ("task.config.level", 0.4, "task 'regression': quantiles must hold the level"),
        ("task.config.reported", "luck", "task 'regression': unknown cost 'luck'"),
    ],
)
def test_a_task_that_is_none_is_refused_wherever_it_is_read(kept, tmp_path, path, value, message):
    folder = shutil.copytree(kept("quantiles")[1], tmp_path / "artifact")
    forge(folder, lambda manifest: changed(manifest, path, value))
    for read in (load_policy, EdgeRuntime, load_cloud):
        with pytest.raises(ValueError, match=message) as refused:
            read(folder)
        assert "\n" not in str(refused.value)


def test_arguments_that_a_task_does_not_have_are_one_line():
    with pytest.raises(ValueError, match=r"task 'regression': .*unexpected keyword.*'code'"):
        task_from_json({"name": "regression", "config": {"code": "x"}})
    with pytest.raises(ValueError, match="task 'priced_classes': "):
        task_from_json({"name": "priced_classes", "config": {"prices": 5}})


def test_a_rule_of_classes_is_none_for_numbers(kept, tmp_path):
    policy = kept("quantiles")[0]
    wrong = replace(policy, rule=Margin())
    with pytest.raises(ValueError, match="the rule Margin needs probabilities; received outputs"):
        save_policy(wrong, tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()
    with pytest.raises(ValueError, match="class_names: expected 3 names"):
        replace(policy, class_names=("a", "b"))


def test_a_device_of_numbers_without_a_graph_for_its_rule_is_told_of(kept, tmp_path):
    policy = replace(kept("one number")[0], rule=Random())
    save_policy(policy, tmp_path / "artifact")
    with pytest.raises(ValueError, match="its rule, random, cannot be part of a graph"):
        EdgeRuntime(tmp_path / "artifact")


def test_a_guard_of_costs_without_a_bound_is_refused_in_one_line(kept):
    _, folder, inputs, bank = kept("quantiles")
    said = "an audit needs the most that a sample can cost; .* bound=None: give it a bound"
    for guard in (
        lambda: EdgeRuntime(folder, guarded=True),
        lambda: DriftGuard.of(read_manifest(folder)),
    ):
        with pytest.raises(ValueError, match=said) as refused:
            guard()
        assert "\n" not in str(refused.value)
    with EdgeRuntime(folder) as device:  # the truth alone does no harm
        assert device.predict(inputs, bank.targets).classes.tolist() == [3, 10, 5, 16]


@pytest.mark.parametrize(
    ("truth", "lost"),
    [
        # Two are kept, at 0 and 7 where the cloud has 1 and 9.
        ([3.0, 6.0, 6.0, 9.0], [-1, 0, -2, 0]),
        ([3.0, None, np.nan, 9.0], [-1, 0]),
        # 5 provided of 100: 195 each, or 197, where 20 is the most that counts.
        ([3.0, 6.0, 100.0, 9.0], [-1, 0, 0, 0]),
    ],
)
def test_a_guarded_device_audits_what_numbers_cost(kept, tmp_path, truth, lost):
    _, folder, inputs, _ = kept("quantiles")
    folder = shutil.copytree(folder, tmp_path / "artifact")
    forge(folder, lambda manifest: changed(manifest, "task.config.bound", 20.0))
    network, manifest, identity = load_cloud(folder)
    with (
        Server(make_app(network, manifest, identity=identity)) as port,
        EdgeRuntime(folder, f"http://127.0.0.1:{port}", deadline_s=30.0, guarded=True) as device,
    ):
        device.guard = DriftGuard.of(manifest, gain=0.0, audit_share=1.0)
        assert device.predict(inputs, np.array(truth, object)).classes.tolist() == [3, 8, 5, 12]
    audit = device.guard.status()["audit"]
    assert (audit["drop"]["count"], audit["drop"]["recent"]) == (len(lost), np.mean(lost))
    # Both answers that are kept are 1 away from the cloud's: 5 + 2·1 at most, each.
    assert audit["disagreement"]["recent"] == pytest.approx((7 + 0 + 7 + 0) / 4)


def test_a_guard_of_prices_counts_them(kept):
    manifest = read_manifest(kept("refusals")[1])
    assert DriftGuard.of(manifest).audit.drop.limit < 1.0  # the highest price


# --- what people see -----------------------------------------------------------------------------


def test_the_service_tells_mean_costs_by_their_name_and_images_by_their_numbers():
    config = json.loads(json.dumps(QUANTILES.get_config()))
    plan = [{"local_fraction": 0.0, "score_threshold": 0.1, "cost": 4.5}]
    manifest = SERVED | {"task": {"name": "regression", "config": config}, "plan": plan}
    app = make_app(
        lambda features: features.astype(np.float32).sum(axis=(1, 2)),
        manifest,
        identity="0123",
        max_wait=0.0,
    )
    features = np.broadcast_to(np.array([1, 2, 3.5], np.float16), (1, 2, 2, 3))
    images = np.zeros((1, 4, 4, 3), np.uint8)
    headers, body = encode([Tensor("features", features), Tensor("images", images)])
    with Server(app) as port:
        url = f"http://127.0.0.1:{port}"
        assert httpx.post(url + INFER, content=body, headers=headers).status_code == 200
        state = httpx.get(url + "/state").json()
    assert state["images"][0]["class"] == "14"  # the last of 4, 8 and 14
    assert state["plan"] == plan
    assert state["measure"] == {
        "name": "cost",
        "title": "mean provisioning cost (lower is better)",
        "higher_is_better": False,
    }


def test_answers_in_words():
    assert in_words(QUANTILES, DEMANDS[:, :3], NAMES) == ["3", "10", "5", "16"]
    said = in_words(REFUSALS, logits_of(ALARMS)[:, :2], ("calm", "alarm"))
    assert said == ["no answer", "calm", "calm", "no answer"]


def test_the_command_of_a_device_tells_the_mean_cost(kept, tmp_path, capsys):
    arrays = {"x_train": DEMANDS, "y_train": TRUTH, "x_test": DEMANDS, "y_test": TRUTH}
    np.savez(tmp_path / "demands.npz", **arrays)
    main([str(kept("quantiles")[1]), "--dataset", str(tmp_path / "demands.npz")])
    # Alone it answers 3, 10, 5 and 16 for 3, 6, 6 and 9: 0, 4, 5 + 2·1 and 7.
    line = next(row for row in capsys.readouterr().out.splitlines() if "provisioning" in row)
    assert "mean provisioning cost" in line
    assert str((0 + 4 + 7 + 7) / 4) in line


def test_folders_of_images_are_no_classes_where_answers_are_numbers(tmp_path):
    (tmp_path / "monday").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "monday" / "a.png")
    reads = {"input_shape": [16, 16, 3], "input_dtype": "uint8", "class_names": list(NAMES)}
    images, labels = read_images(str(tmp_path), None, reads | {"task": TASK}, channels=3)
    assert images.shape == (1, 16, 16, 3)
    assert labels is None
    with pytest.raises(ValueError, match="expected a folder named after a class"):
        read_images(str(tmp_path), None, reads, channels=3)


def test_the_command_of_a_device_counts_refusals(kept, tmp_path, capsys):
    labels = np.array(["alarm", "calm", "calm", "alarm"])
    inputs = logits_of(ALARMS)
    arrays = {"x_train": inputs, "y_train": labels, "x_test": inputs, "y_test": labels}
    np.savez(tmp_path / "alarms.npz", **arrays)
    main([str(kept("refusals")[1]), "--dataset", str(tmp_path / "alarms.npz"), "--batch", "3"])
    rows = [row.split(": ") for row in capsys.readouterr().out.splitlines()]
    told = {row[0]: row[1].strip() for row in rows if len(row) == 2}
    assert told["no answer"] == "2"
    assert told["mean cost"] == str((0.3 + 0 + 0 + 0.3) / 4)

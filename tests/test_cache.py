"""Content addresses: equal for equal content, different for any difference."""

from dataclasses import fields, replace

import pytest

from keras_ddnn.config import DDNNConfig, HeadConfig
from tune.cache import Records, backbone_key, trial_key
from tune.space import SearchConfig, Trial

DATA = "f00d"
DDNN, HEAD = DDNNConfig(), HeadConfig(input="logits")
OTHER_DDNN = {
    "local_filters": 16,
    "local_pool": False,
    "local_units": 32,
    "cloud_filters": ((32,), (64,)),
    "cloud_units": (64,),
    "dropout": 0.5,
    "lambda_local": "random",
    "epochs": 3,
    "batch_size": 64,
    "learning_rate": 0.01,
    "schedule": "one_cycle",
    "augmentation": "crop",
    "precision": "float32",
    "seed": 1,
}
OTHER_HEAD = {
    "input": "logits_plus",
    "architecture": "paper_mlp",
    "depth": 2,
    "target": "correctness",
    "loss": "focal",
    "cost": "zero_one",
    "local_fraction": 0.3,
    "oversample": True,
    "epochs": 3,
    "batch_size": 64,
    "learning_rate": 0.01,
    "patience": 5,
    "precision": "float32",
    "seed": 1,
}


def key(ddnn=DDNN, head=HEAD, data=DATA):
    return trial_key(data, Trial(ddnn, head))


def test_equal_content_has_equal_keys():
    assert backbone_key(DATA, DDNNConfig()) == backbone_key(DATA, DDNNConfig())
    assert key() == key(DDNNConfig(), HeadConfig(input="logits"))


def test_keys_do_not_depend_on_the_order_of_fields():
    given = {"epochs": 3, "seed": 1, "lambda_local": 0.3}
    backwards = dict(reversed(given.items()))
    assert backbone_key(DATA, DDNNConfig(**given)) == backbone_key(DATA, DDNNConfig(**backwards))


@pytest.mark.parametrize("field", [field.name for field in fields(DDNNConfig)])
def test_every_field_of_a_backbone_is_in_its_key_and_in_those_of_its_trials(field):
    other = replace(DDNN, **{field: OTHER_DDNN[field]})
    assert backbone_key(DATA, other) != backbone_key(DATA, DDNN)
    assert key(ddnn=other) != key()


@pytest.mark.parametrize("field", [field.name for field in fields(HeadConfig)])
def test_every_field_of_a_head_is_in_the_key_of_its_trial(field):
    assert key(head=replace(HEAD, **{field: OTHER_HEAD[field]})) != key()


def test_other_data_have_other_keys():
    assert backbone_key("beef", DDNN) != backbone_key(DATA, DDNN)
    assert key(data="beef") != key()


def test_a_raised_version_makes_every_older_result_unknown(monkeypatch):
    before = backbone_key(DATA, DDNN), key()
    monkeypatch.setattr("tune.cache.VERSION", 2)
    assert not {backbone_key(DATA, DDNN), key()} & set(before)


def test_a_record_reads_as_it_was_written(tmp_path):
    records = Records(tmp_path / "trials")
    assert records.read("a") is None
    records.write("a", {"choices": {"lambda_local": "random"}, "metrics": {"val_audc": 0.1 + 0.2}})
    assert records.read("a")["metrics"]["val_audc"] == 0.1 + 0.2
    assert records.read("b") is None


def test_a_search_has_the_records_of_its_own_data_only(tmp_path):
    search = SearchConfig(depth=(1, 2, 3))
    records = Records(tmp_path)
    written = {trial_key(DATA, trial): {"choices": trial.choices()} for trial in search.grid()}
    for name, record in written.items():
        records.write(name, record)
        records.weights(name).mkdir()
    assert records.all(search, DATA) == written
    assert list(records.all(search, DATA)) == sorted(written)
    assert records.all(search, "beef") == {}

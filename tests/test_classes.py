"""Labels as people have them become class numbers, and come back as they were."""

import re

import numpy as np
import pytest

from keras_ddnn.data.classes import Classes, read_labels


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        ([0, 1, 2, 1], (0, 1, 2)),
        ([2, 1, 3, 1], (1, 2, 3)),
        ([30, 0, 10, 20], (0, 10, 20, 30)),
        ([7, 100_007, 7], (7, 100_007)),
        ([2_000_000_000, 0], (0, 2_000_000_000)),
        ([1, -1, 1], (-1, 1)),
        ([10.0, 20.0], (10, 20)),
        (np.array([200, 100], np.uint8), (100, 200)),
        (["dog", "ant", "dog"], ("ant", "dog")),
        (np.array(["dog", "ant"], object), ("ant", "dog")),
        (np.array(["süß".encode(), b"ant"]), ("ant", "süß")),
        (np.array([20, 10], object), (10, 20)),
    ],
    ids=str,
)
def test_labels_become_numbers_in_their_own_order_and_come_back(labels, values):
    numbers, classes, _ = read_labels(labels)
    assert classes.values == values
    assert classes.names == tuple(str(value) for value in values)
    assert numbers.dtype == np.int64
    assert set(numbers) == set(range(len(values)))
    back = classes.decode(numbers).tolist()
    assert back == [label.decode() if isinstance(label, bytes) else label for label in labels]
    np.testing.assert_array_equal(classes.encode(labels), numbers)


def test_numbers_from_zero_without_a_gap_are_kept_and_nothing_is_said():
    labels = np.array([2, 0, 1, 1])
    numbers, classes, how = read_labels(labels)
    assert np.shares_memory(numbers, labels)
    assert np.shares_memory(classes.decode(numbers), labels)
    assert (classes, how) == (Classes.numbered(3), None)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([20, 10, 20], "labels 10, 20 are classes 0, 1"),
        (["b", "a"], "labels 'a', 'b' are classes 0, 1"),
        (["cat ", "cat"], "labels 'cat', 'cat ' are classes 0, 1"),
        (np.arange(1, 101), "labels 1, 2, 3, …, 100 are classes 0, 1, 2, …, 99"),
        ([[10], [20]], "a column .*; labels 10, 20 are classes 0, 1"),
        ([[0], [1]], "a column of labels is read as one label a sample"),
        (np.eye(3)[[2, 0, 1]], "one-hot labels are read as classes 0 to 2"),
    ],
    ids=str,
)
def test_it_is_said_in_one_line_how_labels_were_read(labels, said):
    import re

    how = read_labels(labels)[2]
    assert re.fullmatch(said, how)


def test_columns_and_one_hot_rows_mean_the_labels_they_show():
    assert read_labels([[20], [10]])[0].tolist() == [1, 0]
    one_hot = np.eye(4, dtype=np.float32)[[2, 0, 0, 1]]  # the last class has no sample
    numbers, classes, _ = read_labels(one_hot)
    assert numbers.tolist() == [2, 0, 0, 1]
    assert len(classes) == 4
    assert classes.encode(one_hot).tolist() == [2, 0, 0, 1]
    with pytest.raises(ValueError, match="test labels: expected 4 columns, received 3"):
        classes.encode(np.eye(3), "test labels")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([], "at least one label"),
        ([0.5, 1.0], "expected integers, received fractions or NaN"),
        ([np.nan, 1.0], "expected integers, received fractions or NaN"),
        (
            [1e300, 1.0],
            r"-2\*\*63 to 2\*\*63-1, received others; the first wrong one is labels\[0\] = 1e\+300",
        ),
        (
            np.array([2**63, 1], np.uint64),
            r"the first wrong one is labels\[0\] = 9223372036854775808$",
        ),
        (
            [True, False],
            "expected integers or strings, received dtype bool; pass labels.astype\\(int\\)",
        ),
        (np.array(["a", 1], object), "expected integers or strings, received dtype object"),
        (["a", "", "b"], "a label for every sample, received an empty string for 1 of 3"),
        (["a", "\udcff"], "expected text in UTF-8"),
        (np.array([b"\xff", b"a"]), "expected text in UTF-8"),
        ([[1, 1, 0], [0, 1, 0]], r"expected shape \(n,\), received shape \(2, 3\); give class"),
        (np.eye(9)[:2], "at most as many classes as samples, received 9 classes and 2 samples"),
        (np.zeros((2, 2, 2)), r"received shape \(2, 2, 2\)"),
    ],
    ids=str,
)
def test_labels_that_mean_nothing_are_refused_in_one_line(labels, expected):
    with pytest.raises(ValueError, match=f"^train labels: .*{expected}") as caught:
        read_labels(labels, "train labels")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "labels", "expected"),
    [
        (
            (10, 20),
            [20, 30, 10, 15],
            "known labels, 10, 20, received 15, 30; the first wrong one is labels[1] = 30",
        ),
        ((0, 1), [1, 2], "classes in 0..1, received 2; the first wrong one is labels[1] = 2"),
        ((0, 1), [-1, 0], "classes in 0..1, received -1; the first wrong one is labels[0] = -1"),
        (
            ("a", "b"),
            ["b", "c"],
            "known labels, 'a', 'b', received 'c'; the first wrong one is labels[1] = 'c'",
        ),
        (("a", "b"), [0, 1], "strings such as 'a', received dtype int64"),
        ((10, 20), ["10", "20"], "integers such as 10, received dtype <U2"),
    ],
)
def test_a_label_that_training_did_not_have_is_named(values, labels, expected):
    with pytest.raises(ValueError, match=f"^test labels: expected {re.escape(expected)}$"):
        Classes(values).encode(labels, "test labels")


@pytest.mark.parametrize(
    ("values", "labels", "numbers"),
    [
        ((10, 20), [20, -1, 10], [1, -1, 0]),
        ((-1, 1), [-1, 1, -2], [0, 1, -1]),  # -1 is a class here, so that -2 says unknown
        ((0, 1, 2), [-7, 2], [-1, 2]),
        (("a", "b"), ["b", "", "a"], [1, -1, 0]),
        (("a", "b"), ["b", None], [1, -1]),
        ((10, 20), [None, 20], [-1, 1]),
        (("a", "b"), [-1, -1], [-1, -1]),
    ],
)
def test_some_labels_may_be_unknown(values, labels, numbers):
    assert Classes(values).encode_known(labels).tolist() == numbers


def test_a_label_that_is_neither_known_nor_a_class_is_refused():
    with pytest.raises(ValueError, match="known labels, 10, 20, received 1"):
        Classes((10, 20)).encode_known([10, 1, -1])


@pytest.mark.parametrize("values", [(), (1, 1), ("a", 1), (1.5,), (True, False), (2**63, 1)])
def test_classes_are_different_labels_of_one_kind(values):
    with pytest.raises(ValueError, match="expected different labels, all integers or all strings"):
        Classes(values)


def test_classes_keep_the_order_they_are_given_in():
    classes = Classes((20, 10))
    assert classes.encode([10, 20]).tolist() == [1, 0]
    assert classes.decode([0, 1]).tolist() == [20, 10]
    with pytest.raises(ValueError, match=r"classes in 0\.\.1, received 0 to 2"):
        classes.decode([0, 2])


def test_a_manifest_without_labels_means_numbers():
    manifest = {"class_names": ["cat", "dog"]}
    assert Classes.of_manifest(manifest) == Classes.numbered(2)
    assert Classes.of_manifest(manifest | {"class_values": None}) == Classes.numbered(2)
    assert Classes.of_manifest(manifest | {"class_values": [10, 20]}) == Classes((10, 20))
    with pytest.raises(ValueError, match="class_values: expected 2 labels, received 3"):
        Classes.of_manifest(manifest | {"class_values": [1, 2, 3]})

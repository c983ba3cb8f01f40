"""The fields of a manifest: one table of their types and ranges, and of what they share."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from keras_ddnn.files.fields.outcomes import CALIBRATION, OPERATING_POINT
from keras_ddnn.files.fields.ranges import (
    COUNT,
    FINITE,
    FRACTION,
    MAX_CLASSES,
    POSITIVE,
    SEED,
    THRESHOLD,
    WEIGHTS,
    WIDTH,
    array,
)
from keras_ddnn.files.fields.rules import RULES
from keras_ddnn.files.fields.tasks import TASKS, wrong_of_task
from keras_ddnn.files.shapes import (
    boolean,
    either,
    integer,
    mapping,
    nullable,
    number,
    one_of,
    record,
    refuse,
    sequence,
    short,
    text,
    variants,
)

INPUT_TYPES = ("uint8", "int32", "int64", "float32")  # uint8 is an image
SENT_TYPES = ("float16", *INPUT_TYPES)
IMAGE_SIZES = (3, 4)  # height, width, channels; of several cameras, how many before


def _class_values(path: str, value: Any) -> None:
    """Admit the labels that stand for the classes: all integers, or all text, each once."""
    int64 = integer(-(1 << 63), (1 << 63) - 1)
    kinds = (sequence(kind, 2, MAX_CLASSES) for kind in (int64, text))
    either("a list of integers or a list of texts, 2 at least", *kinds)(path, value)
    ((most, times),) = Counter(value).most_common(1)
    if times > 1:
        refuse(path, "values that differ", most)


DDNN = record(
    {
        "local_filters": WIDTH,
        "local_pool": boolean,
        "local_units": WIDTH,
        "local_dropout": FRACTION,
        "cloud_filters": sequence(sequence(WIDTH, 1, 16), 0, 16),
        "cloud_units": sequence(WIDTH, 0, 16),
        "dropout": FRACTION,
        "bottleneck": nullable(WIDTH),
        "lambda_local": either("a number in [0, 1] or random", FRACTION, one_of("random")),
        "epochs": COUNT,
        "batch_size": COUNT,
        "learning_rate": POSITIVE,
        **dict.fromkeys(("optimizer", "schedule", "augmentation", "precision"), text),
        "label_smoothing": FRACTION,
        "stages": integer(0, 1 << 31),
        "class_weight": nullable(either("balanced or pairs", one_of("balanced"), WEIGHTS)),
        "seed": SEED,
    },
    optional=("bottleneck", "class_weight", "optimizer", "label_smoothing"),
)
READING = record(
    {"fit": text, "background": sequence(integer(0, 255), 3, 3), "scale": nullable(POSITIVE)}
)
TEMPERATURES = record(dict.fromkeys(("local", "cloud"), POSITIVE))
QUANTISATION = record({"low": FINITE, "step": POSITIVE, "bits": one_of(4, 8)})


def _sha256(path: str, value: object) -> None:
    if not (isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")):
        refuse(path, "a SHA-256, 64 hex digits", value)


def _file_name(path: str, value: Any) -> None:
    text(path, value)
    parts = value.split("/")
    if {"", ".", ".."} & set(parts) or "\\" in value or not value.isprintable():
        refuse(path, "files inside the folder", value)


NETWORK = record({"sent": sequence(text, 1, 1), "second_look": boolean}, optional=("second_look",))
CONTENT = record(
    {
        "schema": integer(1, 1 << 31),
        "ddnn": nullable(DDNN),  # the network of the paper and its recipe; null for any other
        "network": nullable(NETWORK),  # any other; beside its file
        "input_shape": array(1, 2, 3, 4),
        "input_dtype": one_of(*INPUT_TYPES),
        "task": variants("name", TASKS),  # what its answers are; absent: plain classes
        "class_names": sequence(text, 1, MAX_CLASSES),  # of the outputs
        "class_values": nullable(_class_values),  # labels of the data; absent or null: 0, 1, …
        "reading": nullable(READING),  # of image files; absent or null: not known
        "rule": variants("name", RULES),
        "score_threshold": THRESHOLD,
        "temperatures": TEMPERATURES,  # of logits, by tier; absent: not known, and 1 is meant
        "dataset": text,  # whose samples chose the threshold; absent: not known
        "metrics": mapping(number(nan=True)),
        "calibration": nullable(CALIBRATION),
        "features": record(
            {
                "shape": array(1, 2, 3, 4),
                "dtype": one_of(*SENT_TYPES),
                "are_inputs": boolean,  # the device sends what it reads, as in a chain
                "quantisation": nullable(QUANTISATION),
                "lossless": boolean,
            }
        ),
        "plan": nullable(sequence(OPERATING_POINT, 1, 100_000)),
        "versions": mapping(text),
        "platform": text,
        "sha256": mapping(_sha256, 100_000, keys=_file_name),
    },
    optional=("task", "class_values", "reading", "temperatures", "dataset"),
)

# Says what is wrong between fields that are right each on its own; None if nothing is.
Rule = Callable[[Mapping], str | None]


def _one_value_a_class(content: Mapping) -> str | None:
    values, names = content.get("class_values"), content["class_names"]
    if values is None or len(values) == len(names):
        return None
    return f"class_values: expected one for each of {len(names)} classes; received {len(values)}"


def _no_name_of_another_class(content: Mapping) -> str | None:
    """Names may be others than the labels, but not the labels in another order."""
    values, names = content.get("class_values") or (), content["class_names"]
    places = {value: k for k, value in enumerate(values) if isinstance(value, str)}
    for k, name in enumerate(names):
        if places.get(name, k) != k:
            return (
                f"class_names[{k}]: expected a name of the class whose label is "
                f"{short(values[k])} in class_values; received {short(name)}, the label of class "
                f"{places[name]}"
            )
    return None


def _codes_where_features_are_codes(content: Mapping) -> str | None:
    features = content["features"]
    if features["quantisation"] is None:
        return (
            "features.quantisation: expected codes where features.lossless is true; received null"
            if features["lossless"]
            else None
        )
    if features["dtype"] != "float16" or features["are_inputs"]:
        return "features.quantisation: expected null where no features are sent as float16"
    if features["quantisation"]["bits"] == 4 and features["shape"][-1] % 2:
        return (
            f"features.shape[{len(features['shape']) - 1}]: expected an even number of channels, "
            f"as two codes make a byte; received {features['shape'][-1]}"
        )
    return None


def _one_network(content: Mapping) -> str | None:
    if content["ddnn"] is None and content["network"] is None:
        return "ddnn: expected an object with named fields; received None"
    if content["ddnn"] is not None and content["network"] is not None:
        return "network: expected null beside ddnn, the network of the paper; received another"
    return None


def _images_of_their_sizes(content: Mapping) -> str | None:
    if content["input_dtype"] == "uint8" and (n := len(content["input_shape"])) not in IMAGE_SIZES:
        return f"input_shape: expected, for images, a list of 3 or 4 items; received '{n} items'"
    return None


def _inputs_travel_as_they_are(content: Mapping) -> str | None:
    features = content["features"]
    sent = features["shape"], features["dtype"]
    inputs = content["input_shape"], content["input_dtype"]
    if features["are_inputs"] and sent != inputs:
        return f"features: expected the inputs, {inputs}, where they travel; received {sent}"
    return None


TOGETHER: tuple[Rule, ...] = (
    wrong_of_task,
    _one_value_a_class,
    _no_name_of_another_class,
    _one_network,
    _images_of_their_sizes,
    _inputs_travel_as_they_are,
    _codes_where_features_are_codes,
)


def check_content(content: Any) -> None:
    """Raise ValueError, in one line that names the field, unless a manifest is as the table says.

    Args:
        content: Plain JSON of a manifest of the present schema, without its seal.
    """
    CONTENT("", content)
    for rule in TOGETHER:
        if wrong := rule(content):
            raise ValueError(wrong)

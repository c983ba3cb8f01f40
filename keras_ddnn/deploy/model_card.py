"""The README of an artefact: what it is, how good, how to run it, and what not to trust it with."""

from collections.abc import Mapping, Sequence
from math import prod

from keras_ddnn.files.manifest import inputs_name
from keras_ddnn.tasks.known import task_of

CARD = """\
# {title}

A distributed deep neural network: a small *local* network that runs on a device, a deep *cloud*
network fed by its {what}, and a rule that says, sample by sample, which of the two answers.
Written by keras_ddnn; `manifest.json` has every number below, and the SHA-256 of every file.

| | |
|---|---|
| {inputs} | {dtype}, {image}{sizes}; normalisation is part of the networks |
| {outputs} | {names} |
{answer}| rule | {rule}; a sample is offloaded where its score is at or above {threshold:.6g} |
| {what} sent | {sent} |
{metrics}{promise}
## Run it
```python
import keras_ddnn

policy = keras_ddnn.load_policy("this/folder")  # verifies every file first
{answers}, offloaded = policy.predict({inputs})
```
{serving}
## Limits
- The threshold was chosen on validation data. {Inputs} of another kind
  ({another}) change the local
  fraction and void every promise above.
- {always}
- {privacy}
"""
SERVING = """
On two machines, the device without TensorFlow:

    python -m keras_ddnn.serve.cloud this/folder --host ADDRESS
    python -m keras_ddnn.serve.edge this/folder --cloud http://ADDRESS:8000 {data}
"""
BYTES = {"uint8": 1, "float16": 2, "int32": 4, "float32": 4, "int64": 8}
# By the number of sizes.
IMAGE_SIZES = {3: " (height × width × channels)", 4: " (cameras × height × width × channels)"}
FEATURES_TELL = "The features that are sent tell much of the input: they are coded, not encrypted."
INPUTS_TELL = (
    "Offloaded samples leave the device as they came: serve over https where that matters."
)
CLASSES = "Every sample gets one of the classes, also one that shows none of them."
REFUSALS = (
    "A sample gets no answer, None, where that is cheapest by the prices of the task, and else one "
    "of the classes, also one that shows none of them."
)
NUMBERS = "Every sample gets a number, also one that is unlike all that was trained on."
NOT_SERVED = """
It holds no graph for a device: {rule} cannot be part of one.
"""


def model_card(manifest: dict, graphs: list[str]) -> str:
    """Return the text, Markdown, of the manifest of an artefact.

    Args:
        manifest: What `write_manifest` is about to write.
        graphs: The graphs for a device that the artefact holds.
    """
    rule, calibration = manifest["rule"], manifest["calibration"]
    name = rule["name"]
    if config := rule.get("config"):
        name += f" ({config['architecture']} on {config['input']})"
    image = manifest["input_dtype"] == "uint8"
    are_inputs = manifest["features"]["are_inputs"]
    inputs = inputs_name(manifest["input_dtype"])
    sizes = IMAGE_SIZES.get(len(manifest["input_shape"]), "") if image else ""
    data = "--images FOLDER" if sizes == IMAGE_SIZES[3] else "--dataset FILE.npz"
    return CARD.format(
        **_of_task(manifest),
        inputs=inputs,
        Inputs=inputs.capitalize(),
        dtype=manifest["input_dtype"],
        image=_sizes(manifest["input_shape"]),
        sizes=sizes,
        names=", ".join(manifest["class_names"]),
        rule=name,
        threshold=manifest["score_threshold"],
        what=inputs if are_inputs else "features",
        sent=_sent(manifest),
        another="another camera, light, place or set of classes"
        if image
        else "measured or written in another way",
        privacy=INPUTS_TELL if are_inputs else FEATURES_TELL,
        metrics="".join(f"| {k} | {v:.6g} |\n" for k, v in manifest["metrics"].items()),
        promise=f"\nPromise of the threshold: {calibration['promise']}.\n" if calibration else "",
        serving=SERVING.format(data=data) if graphs else NOT_SERVED.format(rule=name),
    )


def _of_task(manifest: Mapping) -> dict[str, str]:
    """Say what the answers are."""
    task, count = task_of(manifest), len(manifest["class_names"])
    priced = "" if task.measure.higher_is_better else f"| measured by | {task.measure.title} |\n"
    if task.target_reader is not None:
        level = getattr(task, "level", None)
        said = "the number itself" if count == 1 else f"the quantile {level:g}"
        answer = f"| answer | {said} |\n{priced}"
        words = {"title": "Split network of numbers", "outputs": "outputs", "answers": "numbers"}
        return words | {"answer": answer, "always": NUMBERS}
    chosen = f"| answer | the class of the least expected price |\n{priced}" if priced else ""
    return {
        "title": f"Split classifier of {count} classes",
        "outputs": "classes",
        "answers": "classes",
        "answer": chosen,
        "always": CLASSES if task.refusal is None else REFUSALS,
    }


def _sent(manifest: Mapping) -> str:
    """Say what an offloaded sample sends, and how many bytes that are."""
    features, read = manifest["features"], manifest["input_dtype"]
    raw = BYTES[read] * prod(manifest["input_shape"])
    said = f"{BYTES[features['dtype']] * prod(features['shape']):,} bytes"
    if features["are_inputs"]:
        return f"as they came: {said}"
    said = f"{said} as {features['dtype']}"
    if codes := features["quantisation"]:
        coded = f"{prod(features['shape']) * codes['bits'] // 8:,} bytes as codes"
        said = coded if features["lossless"] else f"{said}, {coded}"
    said = f"{_sizes(features['shape'])}: {said}"
    return f"{said}; the raw {'image' if read == 'uint8' else 'input'} has {raw:,}"


def _sizes(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))

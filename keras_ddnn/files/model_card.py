"""The README of an artefact: what it is, how good, how to run it, and what not to trust it with."""

CARD = """\
# {title}

A distributed deep neural network: a small *local* network that runs on a device, a deep *cloud*
network fed by its features, and a rule that says, sample by sample, which of the two answers.
Written by keras_ddnn; `manifest.json` has every number below, and the SHA-256 of every file.

| | |
|---|---|
| images | uint8, {image} (height × width × channels); normalisation is part of the networks |
| classes | {classes} |
| rule | {rule}; a sample is offloaded where its score is at or above {threshold:.6g} |
| features sent | {features} (height × width × channels): {float_bytes:,} bytes as float16, \
{byte_codes:,} as codes; the raw image has {image_bytes:,} |
{metrics}{promise}
## Run it
```python
import keras_ddnn

policy = keras_ddnn.load_policy("this/folder")  # verifies every file first
classes, offloaded = policy.predict(images)
```
{serving}
## Limits
- The threshold was chosen on validation data. Images of another kind (another camera, light,
  place or set of classes) change the local fraction and void every promise above.
- Every image gets one of the classes, also one that shows none of them.
- The features that are sent tell much of the image: they are coded, not encrypted.
"""
SERVING = """
On two machines, the device without TensorFlow:

    python -m keras_ddnn.serve.cloud this/folder --host ADDRESS
    python -m keras_ddnn.serve.edge this/folder --cloud http://ADDRESS:8000 --images FOLDER
"""
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
    features, image = manifest["features"]["shape"], manifest["input_shape"]
    values = features[0] * features[1] * features[2]
    return CARD.format(
        title=f"Split classifier of {len(manifest['class_names'])} classes",
        image=" × ".join(map(str, image)),
        classes=", ".join(manifest["class_names"]),
        rule=name,
        threshold=manifest["score_threshold"],
        features=" × ".join(map(str, features)),
        float_bytes=2 * values,
        byte_codes=values,
        image_bytes=image[0] * image[1] * image[2],
        metrics="".join(f"| {k} | {v:.6g} |\n" for k, v in manifest["metrics"].items()),
        promise=f"\nPromise of the threshold: {calibration['promise']}.\n" if calibration else "",
        serving=SERVING if graphs else NOT_SERVED.format(rule=name),
    )

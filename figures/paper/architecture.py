"""Figures 1, 5 and 9: the networks, layer by layer, as they are built."""

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from figures.style import CLOUD_COLOUR, LOCAL_COLOUR, new_figure

# Layers that only change a shape or a type, or act on one number at a time, are written beside the
# layer that they follow, not drawn.
FOLDED = {
    "LeakyReLU": "leaky ReLU",
    "ReLU": "ReLU",
    "Bias": "bias",
    "FusedBatchNormalization": "batch norm",
    "Dropout": "dropout",
    "ByteDropout": "dropout",
    "Flatten": "",
    "Identity": "features, which go to the cloud",
    "InputLayer": "",
}
NAMES = {
    "Conv2D": "conv 3×3",
    "Dense": "dense",
    "MaxPooling2D": "max-pool 2×2",
    "GlobalAveragePooling2D": "mean over the map",
    "Rescaling": "rescale",
    "Normalization": "normalise",
}
OUTPUTS = {"local": "local logits", "cloud": "cloud logits", "outputs": "logit of the score"}
WIDTH, HEIGHT, COLUMN = 3.0, 0.62, 3.7


def draw(layers: list[dict], title: str) -> Figure:
    """Draw a network from `describe_layers`, from top to bottom, a column a branch."""
    boxes = _boxes(layers)
    columns = max(box["column"] for box in boxes.values()) + 1
    rows = max(box["row"] for box in boxes.values()) + 1
    figure = new_figure(max(6.0, 1.0 + COLUMN * columns), 1.2 + 0.92 * rows)
    axes = figure.subplots()
    for box in boxes.values():
        x, y = COLUMN * box["column"], -box["row"]
        axes.add_patch(
            FancyBboxPatch(
                (x - WIDTH / 2, y - HEIGHT / 2),
                WIDTH,
                HEIGHT,
                boxstyle="round,pad=0.02,rounding_size=0.08",
                facecolor="white",
                edgecolor=box["colour"],
                linewidth=1.8,
            )
        )
        axes.text(x, y, box["text"], ha="center", va="center", fontsize=10)
        for source in box["inputs"]:
            start = COLUMN * boxes[source]["column"], -boxes[source]["row"] - HEIGHT / 2
            axes.annotate(
                "",
                xy=(x, y + HEIGHT / 2 + 0.02),
                xytext=start,
                arrowprops={"arrowstyle": "-|>", "color": "#666666", "linewidth": 1.2},
            )
    axes.set_xlim(-WIDTH / 2 - 0.2, COLUMN * (columns - 1) + WIDTH / 2 + 0.2)
    axes.set_ylim(-rows + 0.4, 0.6)
    axes.set_axis_off()
    total = sum(layer["multiply_adds"] for layer in layers)
    axes.set_title(f"{title}: {total:,} multiply-adds", fontsize=12)
    return figure


def _boxes(layers):
    """Return a box for each layer that is drawn, by name."""
    boxes, drawn_as = {}, {}
    for layer in layers:
        sources = list(dict.fromkeys(drawn_as[name] for name in layer["inputs"]))
        if layer["kind"] in FOLDED and sources:
            (drawn_as[layer["name"]],) = sources
            if FOLDED[layer["kind"]]:
                boxes[sources[0]]["folded"].append(FOLDED[layer["kind"]])
            continue
        drawn_as[layer["name"]] = layer["name"]
        cloud = layer["name"].startswith("cloud")
        rows = [boxes[source]["row"] + 1 for source in sources]
        boxes[layer["name"]] = {
            "inputs": sources,
            "layer": layer,
            "folded": [],
            "row": max(rows, default=0),
            "column": int(cloud),
            "colour": CLOUD_COLOUR if cloud else LOCAL_COLOUR,
        }
    for box in boxes.values():
        box["text"] = _text(box["layer"], box["folded"])
    return boxes


def _text(layer, folded):
    name = NAMES.get(layer["kind"], "input" if layer["kind"] == "InputLayer" else layer["kind"])
    shape = "×".join(str(size) for size in layer["shape"])
    after = ", ".join(dict.fromkeys(folded))
    after = OUTPUTS.get(layer["name"], after)
    return f"{name} → {shape}\n{after}" if after else f"{name} → {shape}"

"""One look for all figures: colour-blind-safe colours (Okabe & Ito, Tol), one a rule."""

from matplotlib.figure import Figure

RULE_COLOURS = {
    "oracle": "#000000",
    "margin": "#E69F00",
    "max_prob": "#56B4E9",
    "entropy": "#0072B2",
    "random": "#999999",
    "logits": "#009E73",
    "logits_plus": "#D55E00",
    "logits_rich": "#332288",
    "default": "#332288",  # it reads logits_rich
    "logits_features": "#882255",
    "features": "#CC79A7",
    "image": "#B8A800",
    "conv1": "#DDCC77",
    "conv2": "#44AA99",
    "conv3": "#AA4499",
    "conv4": "#661100",
}
RULE_DASHES = {"oracle": ":", "random": "--", "entropy": "-.", "max_prob": "-.", "margin": "-."}
OTHER_COLOUR = "#117733"

# Of the two networks and the two kinds of data, where these are told apart instead of rules.
LOCAL_COLOUR, CLOUD_COLOUR = "#E69F00", "#009E73"
TRAIN_COLOUR, VAL_COLOUR, TEST_COLOUR = "#D55E00", "#0072B2", "#000000"


def new_figure(width: float = 7.0, height: float = 4.6) -> Figure:
    """Return an empty figure; sizes in inches. At 7 inches its text can be read at 600 pixels."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def label(axes, x: str, y: str, title: str = "") -> None:
    """Name both axes, with units, and lay a faint grid."""
    axes.set_xlabel(x, fontsize=12)
    axes.set_ylabel(y, fontsize=12)
    axes.set_title(title, fontsize=12)
    axes.tick_params(labelsize=11)
    axes.grid(alpha=0.25)


def colour(rule: str) -> str:
    """Return the colour of a rule, the same in every figure."""
    return RULE_COLOURS.get(rule, OTHER_COLOUR)


def dash(rule: str) -> str:
    """Return the line style of a rule: solid for what was learned."""
    return RULE_DASHES.get(rule, "-")

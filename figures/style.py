"""One look for all figures: colour-blind-safe colours (Okabe & Ito), the same for the same rule."""

RULE_COLOURS = {
    "oracle": "#000000",
    "margin": "#E69F00",
    "max_prob": "#56B4E9",
    "entropy": "#0072B2",
    "random": "#999999",
    "logits": "#009E73",
    "logits_plus": "#D55E00",
    "logits_rich": "#0072B2",
    "logits_features": "#000000",
    "features": "#CC79A7",
    "image": "#B8A800",
}
RULE_DASHES = {"oracle": ":", "random": "--", "entropy": "-.", "max_prob": "-.", "margin": "-."}
OTHER_COLOUR = "#5A3E8E"

"""What a search calls a network: the paper's, one that is cut, or those of a chain, by name."""

from collections.abc import Sequence
from pathlib import Path

from keras_ddnn.config.presets import PRESETS
from keras_ddnn.data.outputs import TIERS
from keras_ddnn.files.checks import require_choice
from keras_ddnn.rules.inputs import DEVICE_INPUTS
from tune.specs import Cut

PAPER = "paper"  # the network that needs no name


def read_network(network: str | None) -> tuple[Cut, ...]:
    """Return the networks that are asked for as one: cut nowhere yet.

    Args:
        network: "NAME", or "DEVICE+CLOUD" for a chain of two, "DEVICE+FOG+CLOUD" of three, and so
            on; each name may end in "@PRESET", its recipe. None, or "paper", is the network of the
            paper.

    Returns:
        One for each name; none for the network of the paper, which its configuration makes.

    Raises:
        ValueError: If it is none of these.
    """
    if network in (None, PAPER):
        return ()
    names = parts_of(network, "+")
    if not all(names):
        raise ValueError(f"expected NAME, or DEVICE+CLOUD of two or more; received {network!r}")
    cuts = tuple(map(_read_name, names))
    if PAPER in {cut.network for cut in cuts}:
        why = "has two tiers already" if len(cuts) > 1 else "takes the recipe of the search"
        raise ValueError(f"the network of the paper {why}; received {network!r}")
    return cuts


def parts_of(text: str, sign: str) -> list[str]:
    """Return what stands between signs, without the blanks beside them."""
    return [part.strip() for part in text.split(sign)]


def _read_name(name: str) -> Cut:
    before, _, preset = name.rpartition("@")
    recipe = None
    if before and not {*preset} & {*"./:"}:  # else a part of a path
        require_choice(f"preset behind @ in {name!r}", preset, PRESETS)
        name, recipe = before, preset
    if name.endswith(".keras"):  # workers run in other folders
        name = str(Path(name).absolute())
    return Cut(name, None, recipe)


def require_layers(networks: Sequence[tuple[Cut, ...]], at: Sequence[str | None]) -> None:
    """Raise ValueError unless networks that are cut have layers for it, and others none.

    Args:
        networks: See `read_network`.
        at: Layers, with commas between those of one network; None for none.
    """
    layers = [layer for layer in at if layer is not None]
    to_cut = [cuts[0].network for cuts in networks if len(cuts) == 1]
    if layers and not to_cut:
        why = "of the paper is cut at its layer 'features'" if () in networks else "is cut nowhere"
        what = "the network" if () in networks else "each network of a chain"
        raise ValueError(
            f"{what} {why}; received at={layers[0]!r}: name another network, or leave it out"
        )
    if to_cut and len(layers) < len(at):
        raise ValueError(
            f"the network {to_cut[0]!r} needs layers to be cut at; received none: pass at, of "
            f"which python -m keras_ddnn.cuts {to_cut[0]} lists those there are"
        )
    for layer in layers:
        names = parts_of(layer, ",")
        if not all(names) or len({*names}) < len(names):
            raise ValueError(
                f"expected LAYER, or LAYER,LAYER for two exits and so on, each once; received "
                f"{layer!r}: leave out what is there twice or not at all"
            )


def require_inputs(
    networks: Sequence[tuple[Cut, ...]], at: Sequence[str | None], inputs: Sequence[str]
) -> None:
    """Raise ValueError where a gate behind the device would read what only the device has.

    Args:
        networks, at: See `require_layers`.
        inputs: What heads read, keys of `HEAD_INPUTS`.
    """
    longer = [layers for layers in at if layers and "," in layers]
    longer += ["+".join(cut.name() for cut in cuts) for cuts in networks if len(cuts) > len(TIERS)]
    read = next((name for name in inputs if name in DEVICE_INPUTS), None)
    if longer and read:
        raise ValueError(
            f"heads of all gates of {longer[0]!r} read the same, and gates behind the device have "
            f"no image; received input={read!r}: take logits, or features"
        )

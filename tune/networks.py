"""Networks that a search knows by a name: made anew in each process, found by what they are."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

from keras_ddnn.data.datasets import Split, Splits
from keras_ddnn.files.quiet import import_tensorflow
from keras_ddnn.tasks.known import task_from_words
from tune.space import SearchConfig
from tune.specs import NetworkSpec

if TYPE_CHECKING:
    import keras

    from keras_ddnn.networks.cascade import Cascade


def addresses(search: SearchConfig, splits: Splits) -> dict[tuple[str, int], str]:
    """Return the address of each network of a search, by its name and seed, but the paper's.

    The user's code is called in a process of its own, which sees it as it is now.

    Raises:
        ValueError: If a network cannot be made or cut as asked, or does not take such data.
    """
    if not any(spec.cut for spec in search.backbones()):
        return {}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_addresses, search, splits.train.take([0])).result()


def _addresses(search: SearchConfig, sample: Split) -> dict[tuple[str, int], str]:
    import_tensorflow()  # in a process of its own, which would print its lines
    from keras_ddnn.deploy.artifact import require_keepable
    from keras_ddnn.networks.architectures.named_models import address_of
    from keras_ddnn.networks.compose import in_a_row
    from keras_ddnn.training.trainable import require_network

    shape, classes, found, looked_at = sample.images.shape[1:], len(sample.classes), {}, set()
    for members in search.networks():
        specs = [member for member in members if member.cut]
        for spec in specs:
            if (key := (spec.cut.network, spec.ddnn.seed)) not in found:
                found[key] = address_of(_model(spec, shape, classes))
        # λ and the seed make no difference to what can be trained and kept.
        if specs and (cuts := tuple(spec.cut for spec in specs)) not in looked_at:
            looked_at.add(cuts)
            cascades = [untrained(spec, shape, classes) for spec in specs]
            for spec, cascade in zip(specs, cascades):
                require_network(cascade, sample, spec.ddnn)
            whole = in_a_row(cascades)
            for head in {trial.head for trial in search.grid()}:
                head.require_fits(whole.blank_device())
            for place in range(len(whole.sent)):
                require_keepable(whole.hop(place))
    return found


def _model(spec: NetworkSpec, shape: Sequence[int], num_classes: int) -> "keras.Model":
    from keras_ddnn.networks.architectures.named_models import named_network

    return named_network(spec.cut.network, shape, num_classes, spec.ddnn.seed)


def untrained(
    spec: NetworkSpec,
    shape: Sequence[int],
    num_classes: int,
    networks: Mapping[tuple[str, int], str] | None = None,
) -> "Cascade | None":
    """Make the network of a spec; None for that of the paper, which `fit_ddnn` makes.

    Args:
        spec: Which.
        shape: Of one image.
        num_classes: Of the data.
        networks: (name, seed) → the address that the network has to have; any by default.

    Raises:
        ValueError: If it is another network than the one of that address.
    """
    if spec.cut is None:
        return None
    from keras_ddnn.networks.architectures.named_models import address_of, as_network
    from keras_ddnn.networks.cascade import CLOUD
    from keras_ddnn.networks.compose import chain

    name, seed = spec.cut.network, spec.ddnn.seed
    model = _model(spec, shape, num_classes)
    if networks and address_of(model) != networks[name, seed]:
        raise ValueError(
            f"the network {name!r} is another one than when the search began: its code has "
            "changed, or makes other weights each time; run the search again"
        )
    task = task_from_words(spec.cut.task)
    if spec.cut.at is None:  # a tier of a chain, which takes the data in a size of its own
        return chain({CLOUD: model}, input_shape=shape, task=task)
    return as_network(model, spec.cut.layers, task=task)


def built(spec: NetworkSpec, shape: Sequence[int], num_classes: int) -> "Cascade":
    """Make the network of a spec, the paper's as well, with initial weights."""
    from keras_ddnn.networks.cascade import as_cascade
    from keras_ddnn.networks.paper import build_ddnn

    network = untrained(spec, shape, num_classes)
    return network or as_cascade(build_ddnn(shape, num_classes, spec.ddnn))

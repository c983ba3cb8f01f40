"""Networks that a search knows by a name: made anew in each process, found by what they are."""

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

from keras_ddnn.data.datasets import Split, Splits
from tune.space import SearchConfig
from tune.specs import NetworkSpec

if TYPE_CHECKING:
    from keras_ddnn.networks.cascade import Cascade


def addresses(search: SearchConfig, splits: Splits) -> dict[int, str]:
    """Return the address of a search's network for each seed; none for the network of the paper.

    The user's code is called in a process of its own, which sees it as it is now.

    Raises:
        ValueError: If the network cannot be made or cut as asked, or does not take such data.
    """
    if search.network is None:
        return {}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_addresses, search, splits.train.take([0])).result()


def _addresses(search: SearchConfig, sample: Split) -> dict[int, str]:
    from keras_ddnn.deploy.artifact import require_keepable
    from keras_ddnn.networks.named_models import address_of, as_network, named_network
    from keras_ddnn.training.trainable import require_network

    shape, classes, found = sample.images.shape[1:], len(sample.classes), {}
    for seed in search.seed:
        model = named_network(search.network, shape, classes, seed)
        for at in () if found else search.at:
            config = search.backbone(search.lambda_local[0], seed)
            network = as_network(model, at)
            require_network(network, sample, config)
            require_keepable(network)
        found[seed] = address_of(model)
    return found


def untrained(
    spec: NetworkSpec, shape: tuple, num_classes: int, networks: Mapping[int, str] | None = None
) -> "Cascade | None":
    """Make the network of a spec; None for that of the paper, which `fit_ddnn` makes.

    Args:
        spec: Which.
        shape: Of one image.
        num_classes: Of the data.
        networks: Seed → the address that the network has to have; any by default.

    Raises:
        ValueError: If it is another network than the one of that address.
    """
    if spec.cut is None:
        return None
    from keras_ddnn.networks.named_models import address_of, as_network, named_network

    name, seed = spec.cut.network, spec.ddnn.seed
    model = named_network(name, shape, num_classes, seed)
    if networks and address_of(model) != networks[seed]:
        raise ValueError(
            f"the network {name!r} is another one than when the search began: its code has "
            "changed, or makes other weights each time; run the search again"
        )
    return as_network(model, spec.cut.at)


def built(spec: NetworkSpec, shape: tuple, num_classes: int) -> "Cascade":
    """Make the network of a spec, the paper's as well, with initial weights."""
    from keras_ddnn.networks.cascade import as_cascade
    from keras_ddnn.networks.paper import build_ddnn

    network = untrained(spec, shape, num_classes)
    return network or as_cascade(build_ddnn(shape, num_classes, spec.ddnn))

"""Every experiment of the paper: `python -m tune.paper`, drawn by `python -m figures`.

An experiment on a seed is a folder of small files that appears when it is finished, so that a later
run adds to them; backbones are trained once and shared.
"""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.files.atomic import replacing_file, replacing_folder, write_json
from keras_ddnn.files.records import as_json, differences
from tune.experiments import EXPERIMENTS, FULL, QUICK, Scale
from tune.space import SearchConfig
from tune.study import Finished, run_search_of, run_study, study_parser, train_shared

ARCHITECTURES = "architectures.json"
SEARCH = "search.json"


def main(arguments=None) -> int:
    """Run what is missing of the experiments; see `run_study` for exit codes."""
    options = _parser().parse_args(arguments)
    return run_study(_run, options)


def _run(options) -> None:
    scale = QUICK if options.quick else FULL
    if options.output is None:
        options.output = Path("runs/paper_quick" if options.quick else "results/paper")
    if options.seeds:
        scale = replace(scale, seeds=options.seeds, sweep_seeds=options.seeds)
    for seed in sorted({*scale.seeds, *scale.sweep_seeds}):
        _run_seed(options, scale, seed)
    write_json(options.output / ARCHITECTURES, architectures())
    print(options.output)


def _run_seed(options, scale: Scale, seed: int) -> None:
    todo = {}
    for name in options.experiments:
        if seed in EXPERIMENTS[name].seeds(scale):
            search = EXPERIMENTS[name].search(scale, options.dataset, options.epochs, seed)
            if not _holds(_folder(options, name, seed), search):
                todo[name] = search
    train_shared(
        options,
        [
            backbone
            for name, search in todo.items()
            if not _apart(name, scale)
            for backbone in [*search.backbones(), *EXPERIMENTS[name].further(search)]
        ],
    )
    for name, search in todo.items():
        _run_experiment(options, name, search, _apart(name, scale))


def _folder(options, name: str, seed: int) -> Path:
    return options.output / name / f"seed{seed}"


def _apart(name: str, scale: Scale) -> bool:
    """Whether an experiment has backbones of its own, deleted when it is finished."""
    return EXPERIMENTS[name].sweep and not scale.share


def _holds(folder: Path, search: SearchConfig) -> bool:
    """Return whether a folder holds what a search has found; raise if it is another search's."""
    if not folder.exists():
        return False
    asked = differences(SearchConfig, as_json(search))
    if differences(SearchConfig, json.loads((folder / SEARCH).read_text())) != asked:
        raise ValueError(
            f"{folder} holds another experiment than the one asked for: repeat its options (see "
            f"{folder / SEARCH}) or choose another --output"
        )
    return True


def _run_experiment(options, name: str, search: SearchConfig, apart: bool) -> None:
    (seed,) = search.seed

    def measure(finished: Finished):
        with replacing_folder(_folder(options, name, seed)) as new:
            for stem, content in EXPERIMENTS[name].measure(finished).items():
                _write(new / stem, content)
            write_json(new / SEARCH, as_json(search))

    run = f"{name}-seed{seed}"
    backbones = options.work / (f"{run}-backbones" if apart else "backbones")
    run_search_of(options, run, search, measure, backbones)
    if apart:
        shutil.rmtree(backbones)


def _write(path: Path, content) -> None:
    """Write a table as CSV, or a dictionary of arrays as `.npz`."""
    if isinstance(content, pd.DataFrame):
        with replacing_file(path.with_suffix(".csv")) as file:
            content.to_csv(file, index=False, float_format="%.6g")
    else:
        with replacing_file(path.with_suffix(".npz")) as file:
            np.savez_compressed(file, **content)


def architectures() -> dict[str, list[dict]]:
    """Describe the networks of Figures 1, 5 and 9 of the paper, layer by layer."""
    import keras

    from keras_ddnn.heads.architectures import build_head
    from keras_ddnn.networks.costs.model_costs import describe_layers
    from keras_ddnn.networks.paper import build_ddnn

    keras.backend.clear_session()  # layers without a name are numbered from here
    plain = HeadConfig(input="logits_plus", architecture="paper_mlp", depth=4, target="hard")
    conv = replace(plain, input="features", architecture="conv", depth=2)
    models = {
        "ddnn": build_ddnn((32, 32, 3), 10),
        "conv_head": build_head((16, 16, 32), conv),
        "logits_head": build_head((12,), plain),
    }
    return {name: describe_layers(model) for name, model in models.items()}


def _parser():
    parser = study_parser("tune.paper", __doc__)
    parser.set_defaults(output=None)
    add = parser.add_argument
    add("--experiments", choices=EXPERIMENTS, nargs="+", default=list(EXPERIMENTS))
    add("--seeds", type=int, nargs="+", help="default: 5, and 7 of the sweep over λ")
    add("--quick", action="store_true", help="one seed, three λ, five L0, the preset fast")
    return parser


if __name__ == "__main__":
    sys.exit(main())

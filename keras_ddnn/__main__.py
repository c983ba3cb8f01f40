"""All commands under one name: `keras-ddnn search`, `keras-ddnn cuts`, and so on."""

import runpy
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from keras_ddnn import __version__

# Name → the module that is run, and what it does.
COMMANDS = {
    "search": ("tune.search", "train DDNNs and offload heads, choose the best, report it"),
    "cuts": ("keras_ddnn.cuts", "what each cut of a model costs"),
    "rules": ("keras_ddnn.rules", "compare rules on the outputs of any two classifiers"),
    "diagnose": ("keras_ddnn.diagnose", "will learning help? the diagnosis of a search"),
    "capture": ("tune.capture", "what a network says of a large set, in shards"),
    "onnx": ("keras_ddnn.onnx_export", "add ONNX graphs of both parts to an artefact"),
    "recalibrate": (
        "keras_ddnn.deploy.recalibrate_command",
        "choose an artefact's thresholds anew on later samples",
    ),
    "cloud": ("keras_ddnn.serve.cloud", "serve the cloud's part of an artefact"),
    "ray": ("keras_ddnn.serve.ray_app", "the same by Ray Serve, with replicas"),
    "edge": ("keras_ddnn.serve.edge", "run the device's part of an artefact"),
    "gateway": ("keras_ddnn.serve.gateway", "gather the frames of several cameras, and answer"),
    "demo": ("keras_ddnn.serve.demo", "both on this machine, over a slow link"),
}
USAGE = "usage: keras-ddnn COMMAND [OPTIONS], or keras-ddnn COMMAND --help"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command as `python -m` runs its module; its exit code is that of the module.

    Returns:
        0 after help and the version, 2 where there is no such command.
    """
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or ["--help"]
    if name == "--version":
        print(f"keras_ddnn {__version__}")
    elif name in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        lines = [f"  {known:{width}}  {what}" for known, (_, what) in COMMANDS.items()]
        print("\n".join([USAGE, "", *lines]))
    elif name in COMMANDS:
        sys.argv = [f"keras-ddnn {name}", *rest]
        runpy.run_module(COMMANDS[name][0], run_name="__main__", alter_sys=True)
    else:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        known = ", ".join(COMMANDS)
        print(f"error: unknown command {name!r}: expected one of {known}{hint}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

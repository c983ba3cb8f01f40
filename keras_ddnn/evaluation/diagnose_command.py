"""Will learning help? `python -m keras_ddnn.diagnose RUN` prints the diagnosis of a search."""

import json
from pathlib import Path

from keras_ddnn.evaluation.diagnostics import Diagnosis
from keras_ddnn.files.notices import CommandParser, add_forms, said_as, tell_error, tell_result

DIAGNOSIS = "diagnosis.json"


def main(arguments=None) -> int:
    """Print the diagnosis of a run; return 2 after one line if it holds none."""
    parser = CommandParser(prog="python -m keras_ddnn.diagnose", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="output folder of a search")
    add_forms(parser)
    options = parser.parse_args(arguments)
    try:
        content = json.loads((options.run / DIAGNOSIS).read_text())
        diagnosis = Diagnosis.from_json(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        tell_error(f"{options.run} holds no readable {DIAGNOSIS}: {error}")
        return 2
    *lines, last = str(diagnosis).splitlines()
    with said_as(options):
        print(*lines, sep="\n")
        tell_result(last, content)
    return 0

"""Will learning help? `python -m keras_ddnn.diagnose RUN` prints the diagnosis of a search."""

import sys

from keras_ddnn.evaluation.diagnose_command import main

if __name__ == "__main__":
    sys.exit(main())

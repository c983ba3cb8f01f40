"""Will learning help? `python -m keras_ddnn.diagnose RUN` prints the diagnosis of a search."""

import sys

from keras_ddnn.files.extras import extras_of_a_command

with extras_of_a_command():
    from keras_ddnn.evaluation.diagnose_command import main

if __name__ == "__main__":
    sys.exit(main())

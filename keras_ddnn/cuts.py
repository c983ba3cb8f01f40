"""Where to cut? `python -m keras_ddnn.cuts MODEL` says what each cut of a model costs."""

import sys

from keras_ddnn.deploy.cuts_command import main
from keras_ddnn.files.extras import extras_of_a_command

if __name__ == "__main__":
    with extras_of_a_command():
        sys.exit(main())

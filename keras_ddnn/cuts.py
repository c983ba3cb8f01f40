"""Where to cut? `python -m keras_ddnn.cuts MODEL` says what each cut of a model costs."""

import sys

from keras_ddnn.deploy.cuts_command import main

if __name__ == "__main__":
    sys.exit(main())

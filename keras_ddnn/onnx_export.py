"""`python -m keras_ddnn.onnx_export RUN` adds the ONNX graphs of both parts to an artefact."""

import sys

from keras_ddnn.files.extras import extras_of_a_command

if __name__ == "__main__":
    with extras_of_a_command():
        from keras_ddnn.deploy.onnx_command import main

        sys.exit(main())

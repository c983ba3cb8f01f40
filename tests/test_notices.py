import re
import subprocess
import sys
from importlib import reload

from keras_ddnn.files import quiet
from keras_ddnn.files.notices import notice

SAY = "from keras_ddnn.files.notices import notice; notice('pets: 3 of 40 images are animated')"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_script_without_logging_sees_the_notice_on_standard_error():
    done = run(SAY)
    assert (done.stdout, done.stderr) == ("", "note: pets: 3 of 40 images are animated\n")


def test_program_with_logging_gets_the_notice_once():
    done = run(f"import logging; logging.basicConfig(); {SAY}")
    assert done.stderr == "INFO:keras_ddnn.data:pets: 3 of 40 images are animated\n"


def test_notice_can_be_turned_off():
    quiet = "import logging; logging.getLogger('keras_ddnn.data').setLevel('ERROR')"
    assert run(f"{quiet}; {SAY}").stderr == ""


def test_notice_is_one_line_whatever_a_file_is_called(caplog):
    notice("pets/two\nlines.png: animated")
    assert caplog.messages == ["pets/two lines.png: animated"]


CHATTER = """
import logging, os
from keras_ddnn.files.notices import notice
from keras_ddnn.files.quiet import without_chatter
with without_chatter():
    os.write(2, b"I0000 00:00:1.1 7 port.cc:153] oneDNN custom operations are on.\\n")
    os.write(2, b"fully_quantize: 0, inference_type: 6\\n")
    os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n")
    os.write(2, b"E0000 00:00:1.1 7 util.cc:131] oneDNN supports DT_HALF only on some.\\n")
    os.write(2, b"E0000 00:00:1.1 7 cuda.cc:52] failed\\n")
    logging.getLogger("absl").error("an error of Python")
    logging.basicConfig()  # as some functions of TensorFlow do
    os.write(2, b"the last words of a crash")
    {end}
notice("ours")
"""


def test_chatter_of_libraries_is_left_out_and_no_error_is():
    assert run(CHATTER.format(end="")).stderr.splitlines() == [
        "E0000 00:00:1.1 7 cuda.cc:52] failed",
        "an error of Python",
        "the last words of a crashnote: ours",
    ]


def test_a_missing_gpu_is_an_error_only_on_a_machine_that_has_one(monkeypatch):
    line = "E0000 00:00:1.1 7 cuda_platform.cc:52] failed call to cuInit: UNKNOWN ERROR (303)"
    for there in (False, True):
        monkeypatch.setattr("os.path.exists", lambda path, there=there: there)
        assert bool(re.match(reload(quiet).CHATTER, line)) is not there
    monkeypatch.undo()
    reload(quiet)


def test_the_last_words_of_a_crash_are_shown():
    said = run(CHATTER.format(end="os.abort()")).stderr
    assert said.endswith("the last words of a crash")


def test_who_asks_for_the_chatter_gets_it(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    assert "oneDNN custom" in run(CHATTER.format(end="")).stderr


def test_who_asks_for_warnings_does_not_get_the_line_of_the_converter(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    said = run(CHATTER.format(end="")).stderr
    assert "oneDNN custom" in said
    assert "fully_quantize" not in said

import subprocess
import sys

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

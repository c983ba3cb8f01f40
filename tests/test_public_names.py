"""The public names: each is there, is documented in full, and means one thing only."""

import inspect
import re
from pathlib import Path

import pytest

import keras_ddnn

FUNCTIONS = [name for name in keras_ddnn.__all__ if inspect.isfunction(getattr(keras_ddnn, name))]


@pytest.mark.parametrize("name", keras_ddnn.__all__)
def test_a_public_name_resolves_and_is_documented(name):
    assert getattr(keras_ddnn, name).__name__ == name
    assert getattr(keras_ddnn, name).__doc__
    assert name in dir(keras_ddnn)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_documents_its_arguments_and_its_result(name):
    function = getattr(keras_ddnn, name)
    doc, signature = inspect.getdoc(function), inspect.signature(function)
    assert "Args:\n" in doc
    for parameter in signature.parameters:
        line = rf"^    [\w*, ]*\b{parameter}\b[\w, ]*: "
        assert re.search(line, doc, re.MULTILINE), f"{name} does not document {parameter}"
    if signature.return_annotation is not None:
        assert "Returns:\n" in doc


def test_no_public_name_is_also_a_file():
    files = {path.stem for path in Path(keras_ddnn.__file__).parent.iterdir()}
    assert not files & set(keras_ddnn.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'keras_ddnn' has no attribute 'fit_dnn'"):
        keras_ddnn.fit_dnn  # noqa: B018

"""An artefact of somebody else, whose hashes are right, computes on the cloud and does no more."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from toy_manifest import forge

from keras_ddnn.files.checksums import files_of, sha256
from keras_ddnn.serve.cloud.network import load_cloud

FEATURES = tf.TensorSpec((None, 8, 8, 4), tf.float16, name="features")


@pytest.fixture
def folder(toy_artifact, tmp_path):
    """Return a copy of an artefact, to be tampered with."""
    return shutil.copytree(toy_artifact, tmp_path / "artifact")


def rehash(folder):
    """Make the hashes right again, as anyone can."""
    hashes = {name: sha256(file) for name, file in files_of(folder).items()}
    del hashes["manifest.json"]
    forge(folder, lambda manifest: manifest | {"sha256": hashes})


def put_network(folder, act, keep=(), classes=3):
    """Give an artefact a cloud of zero logits that calls `act` each time it is asked."""

    def cloud(features):
        act()
        return {"logits": tf.zeros((tf.shape(features)[0], classes)) + module.weights[0]}

    module = tf.Module()
    module.weights = [tf.Variable(0.0)]
    module.kept = list(keep)
    module.serve = tf.function(cloud, input_signature=[FEATURES], autograph=False)
    shutil.rmtree(folder / "cloud")
    tf.saved_model.save(module, folder / "cloud", signatures={"serving_default": module.serve})
    rehash(folder)


def edit(folder, change):
    """Change the graph of an artefact as data."""
    path = folder / "cloud" / "saved_model.pb"
    saved = SavedModel.FromString(path.read_bytes())
    change(saved.meta_graphs[0])
    path.write_bytes(saved.SerializeToString())
    rehash(folder)


def ask(folder):
    """Serve an artefact, and ask it once."""
    network, _, _ = load_cloud(folder)
    return network(np.zeros((1, 8, 8, 4), np.float16))


def write(target):
    """Return what writes a file, as an operation of a graph."""
    return lambda: tf.io.write_file(str(target), "owned")


def in_a_function(act):
    def nested():
        act()
        return tf.constant(0)

    return tf.function(tf.function(nested, autograph=False), autograph=False)


def in_a_loop(act):
    def body(k):
        act()
        return [k + 1]

    return lambda: tf.while_loop(lambda k: k < 1, body, [0])


def in_a_branch(act):
    def true():
        act()
        return 0

    return lambda: tf.cond(tf.constant(True), true, lambda: 0)


def test_the_package_s_own_networks_and_toys_are_served(folder):
    assert ask(folder).shape == (1, 3)
    put_network(folder, lambda: None)
    assert ask(folder).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("hide", [lambda act: act, in_a_function, in_a_loop, in_a_branch])
def test_a_graph_that_writes_a_file_is_refused_before_it_runs(folder, tmp_path, hide):
    put_network(folder, hide(write(tmp_path / "written")))
    with pytest.raises(ValueError, match=r"saved_model\.pb: expected operations.*'WriteFile'"):
        ask(folder)
    assert not (tmp_path / "written").exists()


NEVER = "/tmp/never"
MORE = [
    (lambda: tf.py_function(lambda: 0, [], tf.int32), "EagerPyFunc"),
    (lambda: tf.numpy_function(lambda: 0, [], tf.int64), "PyFunc"),
    (lambda: tf.io.read_file("/etc/hostname"), "ReadFile"),
    (lambda: tf.print("text", output_stream=f"file://{NEVER}"), "StringFormat|PrintV2"),
    (lambda: tf.raw_ops.RestoreV2(**SAVED, dtypes=[tf.float32]), "RestoreV2"),
    (lambda: tf.raw_ops.SaveV2(**SAVED, tensors=[0.0]), "SaveV2"),
    (lambda: tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[]), "VarHandleOp"),
]
SAVED = {"prefix": NEVER, "tensor_names": ["x"], "shape_and_slices": [""]}


@pytest.mark.parametrize(("act", "operation"), MORE)
def test_a_graph_that_does_more_than_compute_is_refused_by_name(folder, act, operation):
    put_network(folder, act)
    with pytest.raises(ValueError, match=f"received '({operation})' in the function __inference"):
        ask(folder)


def writing_node(graph, target):
    """Put nodes that write a file into a list of nodes."""
    constant = tf.make_tensor_proto(str(target))
    for name in ("name", "text"):
        node = graph.add(name=name, op="Const")
        node.attr["value"].tensor.CopyFrom(constant)
        node.attr["dtype"].type = tf.string.as_datatype_enum
    graph.add(name="write", op="WriteFile", input=["name:output:0", "text:output:0"])


@pytest.mark.parametrize("place", ["the graph", "traced_save", "traced_restore"])
def test_a_write_among_what_saves_restores_or_initialises_is_refused(folder, tmp_path, place):
    def change(graph):
        nodes = {"the graph": graph.graph_def.node}
        for function in graph.graph_def.library.function:
            nodes |= {
                key: function.node_def
                for key in ("traced_save", "traced_restore")
                if key in function.signature.name
            }
        writing_node(nodes[place], tmp_path / "written")

    edit(folder, change)
    with pytest.raises(ValueError, match=f"'WriteFile' in .*{place}"):
        ask(folder)
    assert not (tmp_path / "written").exists()


def test_an_initialiser_that_reads_a_file_is_refused(folder, tmp_path):
    (tmp_path / "words").write_text("a\nb\n")
    words = tf.lookup.TextFileInitializer(
        str(tmp_path / "words"),
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    put_network(folder, lambda: None, keep=[tf.lookup.StaticHashTable(words, 0)])
    with pytest.raises(ValueError, match="without files of its own; received an asset"):
        ask(folder)


def test_an_initialiser_without_a_file_is_refused_too(folder):
    words = tf.lookup.KeyValueTensorInitializer(["a"], [1])
    put_network(folder, lambda: None, keep=[tf.lookup.StaticHashTable(words, 0)])
    with pytest.raises(ValueError, match=r"received ('HashTableV2|an object of kind)"):
        ask(folder)


def test_what_saves_and_restores_cannot_be_called_by_the_network(folder):
    def change(graph):
        functions = graph.graph_def.library.function
        (restore,) = (f.signature.name for f in functions if "restore" in f.signature.name)
        graph.object_graph_def.nodes[-1].bare_concrete_function.concrete_function_name = restore

    edit(folder, change)
    with pytest.raises(ValueError, match="cannot be loaded"):
        ask(folder)


def test_an_object_that_restores_itself_is_refused(folder):
    edit(folder, lambda graph: graph.object_graph_def.nodes[0].saveable_objects["x"].SetInParent())
    with pytest.raises(ValueError, match="an object that restores itself"):
        ask(folder)


@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 100])
def test_what_is_no_graph_is_refused_in_one_line(folder, content):
    (folder / "cloud" / "saved_model.pb").write_bytes(content)
    rehash(folder)
    with pytest.raises(ValueError, match=r"saved_model\.pb") as refused:
        ask(folder)
    assert "\n" not in str(refused.value)


def test_a_graph_beside_the_one_that_was_checked_is_not_loaded(folder, tmp_path):
    good = (folder / "cloud" / "saved_model.pb").read_bytes()
    put_network(folder, write(tmp_path / "written"))
    evil = (folder / "cloud" / "saved_model.pb").read_bytes()
    (folder / "cloud" / "saved_model.pb").write_bytes(good)
    (folder / "cloud" / "saved_model.pbtxt").write_text(str(SavedModel.FromString(evil)))
    (folder / "cloud" / "saved_model.cpb").write_bytes(evil)
    rehash(folder)
    with pytest.raises(ValueError, match="cannot be loaded"):  # its variables are the other's
        ask(folder)
    assert not (tmp_path / "written").exists()


def test_a_graph_of_other_shapes_than_the_manifest_says_is_refused(folder):
    put_network(folder, lambda: None, classes=4)
    with pytest.raises(ValueError, match=r"expected a graph of logits float32 \(None, 3\).*, 4\)"):
        ask(folder)


def test_lost_variables_are_told_of_in_one_line(folder):
    shutil.rmtree(folder / "cloud" / "variables")
    rehash(folder)
    with pytest.raises(ValueError, match="cannot be loaded") as refused:
        ask(folder)
    assert "\n" not in str(refused.value)

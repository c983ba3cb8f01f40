"""The cloud's graph of an artefact, which is loaded only if it computes and does nothing else.

A SavedModel is a program: TensorFlow has operations that read and write files, start Python and
reach over the network. So the graph is parsed as data first, and refused by the name of the first
operation that `OPERATIONS` does not list, wherever it is: in a function, in the body of a loop, in
an initialiser. What is loaded then is a copy of what was checked, without the functions that save
and restore, which use files by their nature; the loader reads the variables without them.

An allow-list does not bound time and memory: a listed operation may be asked for a huge array.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

SAVED_MODEL = "saved_model.pb"
VARIABLES = "variables"  # a folder
SIGNATURE = "serving_default"

# Operations of inference, as Keras layers and `keras.ops` make them.
_COMPUTING = """
    Const Identity IdentityN NoOp Placeholder PlaceholderWithDefault StopGradient PreventGradient
    EnsureShape Assert ReadVariableOp ResourceGather ResourceGatherNd

    PartitionedCall StatefulPartitionedCall If StatelessIf Case StatelessCase While StatelessWhile
    TensorListReserve TensorListSetItem TensorListGetItem TensorListStack TensorListFromTensor
    TensorListElementShape TensorListLength TensorListPushBack TensorListPopBack EmptyTensorList
    TensorListResize TensorListConcatV2 TensorListGather

    Conv2D Conv3D Conv DepthwiseConv2dNative Conv2DBackpropInput Conv3DBackpropInputV2
    Dilation2D MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3 Einsum BiasAdd BiasAddV1
    FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 LRN L2Loss
    MaxPool MaxPoolV2 MaxPool3D AvgPool AvgPool3D
    ResizeBilinear ResizeNearestNeighbor ResizeBicubic ResizeArea CropAndResize ScaleAndTranslate
    ImageProjectiveTransformV3
    SpaceToDepth DepthToSpace SpaceToBatchND BatchToSpaceND ExtractImagePatches ExtractVolumePatches
    FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel
    QuantizeAndDequantizeV4 Dequantize QuantizeV2 Bitcast

    Relu Relu6 LeakyRelu Elu Selu Softplus Softsign Sigmoid Tanh Softmax LogSoftmax Erf Erfc Erfinv

    Add AddV2 AddN AccumulateNV2 Sub Mul MulNoNan Div DivNoNan RealDiv FloorDiv TruncateDiv FloorMod
    Mod TruncateMod Neg Abs Sign Square Sqrt Rsqrt Reciprocal Inv Pow Exp Expm1 Log Log1p Xlogy
    Xlog1py Xdivy SquaredDifference Maximum Minimum ClipByValue Floor Ceil Round Rint
    Sin Cos Tan Asin Acos Atan Atan2 Sinh Cosh Asinh Acosh Atanh Lgamma Digamma
    Equal NotEqual ApproximateEqual Less LessEqual Greater GreaterEqual
    LogicalAnd LogicalOr LogicalNot BitwiseAnd BitwiseOr BitwiseXor Invert LeftShift RightShift
    IsFinite IsInf IsNan

    Sum Prod Mean Max Min All Any EuclideanNorm ArgMax ArgMin TopK TopKV2 InTopKV2 Bincount
    DenseBincount Cumsum Cumprod CumulativeLogsumexp SegmentSum SegmentMean SegmentMax SegmentMin
    SegmentProd UnsortedSegmentSum UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd
    SparseSegmentSum SparseSegmentMean

    Cast Reshape Shape ShapeN Size Rank Squeeze ExpandDims Transpose ConjugateTranspose
    Concat ConcatV2 ConcatOffset Split SplitV Pack Unpack ParallelConcat Pad PadV2 MirrorPad Tile
    BroadcastTo BroadcastArgs BroadcastGradientArgs Fill ZerosLike OnesLike Range LinSpace OneHot
    Slice StridedSlice TensorStridedSliceUpdate Gather GatherV2 GatherNd ScatterNd
    TensorScatterUpdate TensorScatterAdd TensorScatterSub TensorScatterMax TensorScatterMin
    Reverse ReverseV2 ReverseSequence Roll InvertPermutation Where Select SelectV2 Unique UniqueV2
    Bucketize LowerBound UpperBound MatrixBandPart MatrixDiag MatrixDiagV3
    MatrixDiagPart MatrixDiagPartV3 MatrixSetDiagV3 Diag DiagPart CheckNumerics
    StatelessRandomUniformV2 StatelessRandomNormalV2 StatelessTruncatedNormalV2
    StatelessRandomGetAlg StatelessRandomGetKeyCounter StatelessRandomUniform StatelessRandomNormal
"""
OPERATIONS = frozenset(_COMPUTING.split())
# What the graph around the functions may hold too: it makes the variables, and is not run.
AROUND = OPERATIONS | {"VarHandleOp"}
# What a SavedModel saves and restores its variables with; these functions are left out.
_SAVING = """
    Const Identity NoOp Pack Select StringJoin StaticRegexFullMatch ShardedFilename SaveV2
    MergeV2Checkpoints RestoreV2 ReadVariableOp AssignVariableOp DisableCopyOnRead
"""
SAVER_OPERATIONS = frozenset(_SAVING.split())
# Of the objects around the functions: no assets, tables or other resources.
OBJECTS = {
    "user_object",
    "function",
    "bare_concrete_function",
    "variable",
    "constant",
    "captured_tensor",
}
IDENTIFIERS = {
    "_generic_user_object",
    "trackable_list_wrapper",
    "trackable_tuple_wrapper",
    "trackable_dict_wrapper",
    "signature_map",
}


def load_step(
    folder, features_shape: Sequence[int], num_classes: int
) -> Callable[[tf.Tensor], tuple[tf.Tensor]]:
    """Load the network that `export_cloud` has written, after checking each of its operations.

    Args:
        folder: The SavedModel.
        features_shape: Shape of the features of a sample, (h, w, f).
        num_classes: Number of logits of a sample.

    Returns:
        A traced function: features, float16 (n, h, w, f) → (logits, float32 (n, num_classes),).

    Raises:
        ValueError: In one line, if the graph cannot be read, holds an operation that is not listed,
            or is not of these shapes. Nothing of it has run then.
    """
    folder = Path(folder)
    checked = _checked(folder / SAVED_MODEL)
    saved = _load(checked, folder)
    expected = (
        {"features": tf.TensorSpec((None, *features_shape), tf.float16)},
        {"logits": tf.TensorSpec((None, num_classes), tf.float32)},
    )
    serve = saved.signatures.get(SIGNATURE) if hasattr(saved, "signatures") else None
    if serve is None:
        raise ValueError(f"{folder}: expected the signature {SIGNATURE!r}; received none")
    received = serve.structured_input_signature[1], serve.structured_outputs
    for wanted, specs in zip(expected, received):
        if _described(wanted) != _described(specs):
            raise ValueError(
                f"{folder}: expected a graph of {_described(wanted)}, as its manifest says; "
                f"received {_described(specs)}"
            )
    return tf.function(
        # `saved` is what keeps the variables.
        lambda features: (saved.signatures[SIGNATURE](features=features)["logits"],),
        input_signature=[expected[0]["features"]],
        autograph=False,
    )


def _described(specs) -> str:
    return ", ".join(
        f"{name} {spec.dtype.name} {spec.shape}" for name, spec in sorted(specs.items())
    )


def _checked(path: Path) -> SavedModel:
    """Return what may be loaded of a SavedModel; nothing of it runs here."""
    saved = SavedModel()
    try:
        saved.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise ValueError(f"{path} is no readable graph: {error}") from error
    if len(saved.meta_graphs) != 1 or not saved.meta_graphs[0].HasField("object_graph_def"):
        raise ValueError(f"{path}: expected one graph of TensorFlow 2; received another")
    try:
        _check_and_strip(saved.meta_graphs[0])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return saved


def _check_and_strip(graph: MetaGraphDef) -> None:
    """Refuse what may do more than compute, and take away what only saves and restores."""
    if graph.asset_file_def:
        raise ValueError("expected a graph without files of its own; received an asset")
    definition = graph.graph_def
    saver = graph.saver_def.save_tensor_name, graph.saver_def.restore_op_name
    saver = {name.partition(":")[0] for name in saver}
    savers = {node.attr["f"].func.name for node in definition.node if node.name in saver}
    _require_operations("the graph", definition.node, AROUND)
    functions = definition.library.function
    names = {function.signature.name for function in functions}
    for function in functions:
        name = function.signature.name
        known = SAVER_OPERATIONS if name in savers else OPERATIONS | (names - savers)
        _require_operations(f"the function {name}", function.node_def, known)
    for node in graph.object_graph_def.nodes:
        _require_plain_object(node)

    kept = [function for function in functions if function.signature.name not in savers]
    constants = [node for node in definition.node if node.op == "Const"]
    del functions[:], definition.node[:]
    functions.extend(kept)
    definition.node.extend(constants)
    for field in ("saver_def", "collection_def", "signature_def"):
        graph.ClearField(field)


def _require_operations(where: str, nodes: Iterable, known: Iterable[str]) -> None:
    for node in nodes:
        if node.op not in known:
            raise ValueError(
                f"expected operations that compute, as in OPERATIONS of {__name__}; received "
                f"{node.op[:60]!r} in {where[:80]}"
            )


def _require_plain_object(node) -> None:
    kind = node.WhichOneof("kind")
    if kind not in OBJECTS:
        raise ValueError(f"expected functions and variables; received an object of kind {kind}")
    if kind == "user_object" and node.user_object.identifier not in IDENTIFIERS:
        raise ValueError(f"expected plain objects; received {node.user_object.identifier[:60]!r}")
    if node.saveable_objects or node.registered_saver:
        raise ValueError("expected variables alone; received an object that restores itself")


def _load(checked: SavedModel, folder: Path):
    """Load what was checked, rather than what the folder holds by then."""
    with tempfile.TemporaryDirectory() as copy:
        (Path(copy) / SAVED_MODEL).write_bytes(checked.SerializeToString())
        if (folder / VARIABLES).is_dir():
            os.symlink((folder / VARIABLES).resolve(), Path(copy) / VARIABLES)
        try:
            return tf.saved_model.load(copy)
        except Exception as error:  # of whatever kind, for the loader expects its own files
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{folder} cannot be loaded: {type(error).__name__} {reason}"
            ) from error

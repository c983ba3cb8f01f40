"""Which reader a file or a folder is for, by its name or by the names in it."""

from pathlib import Path

from keras_ddnn.data.formats.archives import read_npz
from keras_ddnn.data.formats.cifar import read_cifar
from keras_ddnn.data.formats.folders import list_folder
from keras_ddnn.data.formats.found import Found
from keras_ddnn.data.formats.idx import read_idx
from keras_ddnn.data.formats.tables import TABLES, read_table

PACKED = (".gz", ".tgz", ".tar", ".zip", ".7z", ".bz2", ".xz", ".rar")


def read_files(path: Path) -> Found:
    """Read a dataset of files; images that are files of their own are only listed.

    Args:
        path: A folder of images, split/class/image or class/image; a folder of IDX files (MNIST and
            its family) or of CIFAR-10 or CIFAR-100, as they are published; a .npz file of arrays
            named as Keras, MedMNIST or scikit-learn name them; or a .csv, .tsv or .parquet table of
            image files and their labels.

    Raises:
        ValueError: It is none of these, or its reader refuses it.
        ModuleNotFoundError: What reads such tables is not installed; the message names the extra.
    """
    if path.is_dir():
        return read_idx(path) or read_cifar(path) or list_folder(path)
    suffix = path.suffix.lower()
    if suffix in TABLES:
        return read_table(path)
    if "idx" in path.name and "ubyte" in path.name:
        raise ValueError(f"{path}: expected the folder of the four IDX files: name {path.parent}")
    if suffix in PACKED:
        raise ValueError(f"{path}: expected a folder, received a packed one: unpack it first")
    return read_npz(path)

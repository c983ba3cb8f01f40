"""The cloud's half of an artefact, verified, as a function of arrays."""

from keras_ddnn.files.manifest import CLOUD, artifact_of, model_id, read_manifest
from keras_ddnn.files.quiet import import_tensorflow
from keras_ddnn.files.signature import Key
from keras_ddnn.serve.cloud.service import Network


def load_cloud(run, verify_key: Key | None = None) -> tuple[Network, dict, str]:
    """Load the cloud's network of an artefact, after verifying all of it.

    Args:
        run: The artefact, or the output folder of a search that holds one.
        verify_key: The public key that the artefact must be signed by; see `read_manifest`.

    Returns:
        The network, the manifest and the model id: what `make_app` needs.

    Raises:
        OSError: If the file of the key cannot be read.
        ValueError: If a file is missing or damaged, the signature asked for is missing or wrong,
            the artefact has no network for the cloud, or one that does more than compute.
    """
    folder = artifact_of(run)
    manifest = read_manifest(folder, verify_key)
    if not any(name.startswith(f"{CLOUD}/") for name in manifest["sha256"]):
        raise ValueError(f"{folder} was saved without graphs; it holds no folder {CLOUD}/")

    import_tensorflow()
    from keras_ddnn.deploy.cloud_graph import load_step
    from keras_ddnn.networks.batched import BUCKETS, run_in_batches

    sent, classes = manifest["features"], len(manifest["class_names"])
    step = load_step(folder / CLOUD, sent["shape"], classes, sent["dtype"])

    def network(features):
        return run_in_batches(step, features, BUCKETS)[0]

    return network, manifest, model_id(folder)

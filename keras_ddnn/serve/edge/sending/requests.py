"""What a device asks of the cloud, cut to what a cloud takes of one request."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from keras_ddnn.data.quantisation import Quantisation
from keras_ddnn.files.checks import require_count
from keras_ddnn.serve.edge.sending.budget import SendingBudget
from keras_ddnn.serve.protocol.answers import Answers
from keras_ddnn.serve.protocol.limits import LONGEST_KEEP_ID, MAX_ANSWERED_LOCALLY, MAX_TIMEOUT
from keras_ddnn.serve.protocol.wire import Tensor, decode, encode


class RequestWriter:
    """Writes a device's requests, and reads their answers; threads may share it.

    Args:
        manifest: Manifest of the artefact; see `read_manifest`.
        identity: Identity of the artefact; see `model_id`.
        in_codes: Whether features are sent as codes, not as float16.
        share_images: Whether images are sent too. Where they are what travels, they are sent once.
        max_bytes: Length of the longest body.
        max_samples: Most samples of one request.
        keeps: Whether requests shall ask the cloud to keep their samples.
        budget: No request is more than a minute of it lets through; None for no limit.

    Attributes:
        identity: See above.
        sample_bytes: Bytes of a sample in a request.
        header_bytes: The most that a request has beside its samples.
        samples: The most that one request holds.
        longest: Bytes of a request of as many.

    Raises:
        ValueError: If a request of one sample is longer than `max_bytes` or than the budget, or the
            artefact reads no images that could be shared.
    """

    def __init__(
        self,
        manifest: Mapping,
        identity: str,
        *,
        in_codes: bool,
        share_images: bool,
        max_bytes: int,
        max_samples: int,
        keeps: bool = False,
        budget: SendingBudget | None = None,
    ):
        require_count(max_bytes=max_bytes, max_samples=max_samples)
        features = manifest["features"]
        quantisation = Quantisation.from_json(features["quantisation"])
        if share_images and manifest["input_dtype"] != "uint8":
            raise ValueError(
                "share_images expects an artefact that reads images; received one that reads "
                f"{manifest['input_dtype']} of shape {manifest['input_shape']}"
            )
        self._quantisation = quantisation if in_codes else None
        self._dtype, self._are_inputs = features["dtype"], features["are_inputs"]
        self._input_dtype = manifest["input_dtype"]
        self.identity, self._share_images = identity, share_images
        self._feature_shape, self._image_shape = features["shape"], manifest["input_shape"]
        self._num_classes = len(manifest["class_names"])
        tensors = self._tensors(*self._blank(1))
        self.sample_bytes = sum(tensor.array.nbytes for tensor in tensors)
        keep = LONGEST_KEEP_ID if keeps else None
        _, body = self.write(*self._blank(1), MAX_ANSWERED_LOCALLY, MAX_TIMEOUT / 1e6, keep)
        # The header grows with the digits of the number of samples and of their bytes.
        digits = len(str(max_samples)) + len(str(max_bytes))
        self.header_bytes = len(body) - self.sample_bytes + digits * len(tensors)
        self.samples = min(max_samples, (max_bytes - self.header_bytes) // self.sample_bytes)
        if self.samples < 1:
            raise ValueError(
                f"expected max_bytes of at least {self.header_bytes + self.sample_bytes}, for one "
                f"sample of this artefact; received {max_bytes}: raise it (--max-bytes)"
            )
        if budget is not None:
            self.samples = budget.most(self.samples, self.header_bytes, self.sample_bytes)
        self.longest = self.header_bytes + self.samples * self.sample_bytes

    def parts(self, count: int) -> Iterator[slice]:
        """Return which of `count` samples go into each request."""
        return (slice(start, start + self.samples) for start in range(0, count, self.samples))

    def write(
        self,
        features: np.ndarray,
        images: np.ndarray,
        answered_locally: int,
        timeout: float | None = None,
        keep: str | None = None,
    ) -> tuple[dict[str, str], bytes]:
        """Return the HTTP headers and the body of a request.

        Args:
            features: What the graph has made, (n, ...), n at most `samples`; the inputs where these
                travel.
            images: The inputs that they come from, uint8 (n, height, width, channels) for images.
            answered_locally: Samples that the cloud has not been told of.
            timeout: Seconds that the device will wait; None where it is not told, as to a service
                that would refuse the parameter.
            keep: The id by which the cloud is to keep the samples, `KEEP_ID`; None if it is not.
        """
        told = min(answered_locally, MAX_ANSWERED_LOCALLY)
        parameters = {"model": self.identity, "answered_locally": told}
        if timeout is not None:  # 0 would stand for none
            parameters["timeout"] = min(max(1, int(timeout * 1e6)), MAX_TIMEOUT)
        if keep is not None:
            parameters["keep"] = keep
        return encode(self._tensors(features, images), parameters=parameters)

    def blank(self, count: int) -> tuple[dict[str, str], bytes]:
        """Return the HTTP headers and the body of a request of `count` samples of zeros."""
        return self.write(*self._blank(count), 0)

    def reader(self, count: int) -> Callable[[Mapping[str, str], bytes], Answers]:
        """Return what reads the answer to a request of `count` samples.

        Returns:
            HTTP headers, body → Answers; it raises WireError for what is none.
        """

        def read(headers: Mapping[str, str], body: bytes) -> Answers:
            return Answers.of_tensors(
                decode(headers, body, "outputs").tensors, count, self._num_classes
            )

        return read

    def _blank(self, count):
        features = np.zeros((count, *self._feature_shape), self._dtype)
        return features, np.zeros((count, *self._image_shape), self._input_dtype)

    def _tensors(self, features, images) -> list[Tensor]:
        shared = [Tensor("images", images)] if self._share_images else []
        if shared and self._are_inputs:
            return shared
        coded = self._quantisation.codes(features) if self._quantisation else features
        dtype = "uint8" if self._quantisation else self._dtype
        return [Tensor("features", coded.astype(dtype, copy=False)), *shared]

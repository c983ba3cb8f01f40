"""The versions of a model that a service answers by, each with a network and a queue of its own."""

import asyncio
import concurrent.futures
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from reprlib import repr as brief
from typing import Any, NamedTuple

import numpy as np

from keras_ddnn.files.notices import EACH_TIME
from keras_ddnn.serve.cloud.network import Network, ServedTier, as_tier
from keras_ddnn.serve.protocol.batching import Batcher, Unavailable
from keras_ddnn.serve.protocol.causes import WRONG_MODEL
from keras_ddnn.serve.protocol.requests import request_reader
from keras_ddnn.serve.protocol.wire import WireError
from keras_ddnn.tasks.known import in_words, task_of

log = logging.getLogger(__name__)


class Served(NamedTuple):
    """What a version is made of; `load_cloud` and `load_fog` return it.

    Attributes:
        model: What answers.
        manifest: Of its artefact; see `read_manifest`.
        identity: The model id that a request may ask for; see `model_id`.
    """

    model: Network | ServedTier
    manifest: Mapping[str, Any]
    identity: str


class Version:
    """One network with its queue.

    Args:
        served: What it is made of.
        max_queue: Samples that may wait; also the most of one request.
        queue: Further options of `Batcher`.

    Attributes:
        tier: What answers.
        batcher: The queue in front of it.
        read: Reads the requests to it; see `request_reader`.

    Raises:
        ValueError: If a number is out of range, or the manifest names no task.
    """

    def __init__(self, served: Served, *, max_queue: int, **queue: Any):
        self.served = served
        self.manifest, self.identity = served.manifest, served.identity
        self.tier = as_tier(served.model, served.manifest)
        self.batcher = Batcher(
            self.tier.answer, max_queue=max_queue, at_once=self.tier.at_once, **queue
        )
        self.task = task_of(served.manifest)
        self.read = request_reader(served.manifest, max_queue)

    def in_words(self, logits: np.ndarray) -> list[str]:
        """Return what logits (n, ...) answer, for people to read."""
        return in_words(self.task, logits, self.manifest["class_names"])

    async def close(self) -> None:
        """Answer what waits, and let go of the tiers behind."""
        await self.batcher.__aexit__(None, None, None)
        self.tier.close()


class Versions:
    """Versions by their identities; the first one answers requests that name none.

    Each request goes to the version that it names, so that devices may be given a new artefact one
    after another. Use it in `async with`, whose end answers what still waits.

    Args:
        served: What is served at first, at least one.
        changed: Called once the versions are others.
        check: Raises ValueError for what is not to be served.
        options: Of `Version`.

    Raises:
        ValueError: As `Version` does; or if one comes twice.
    """

    def __init__(
        self,
        served: Sequence[Served],
        changed: Callable[[], None] = lambda: None,
        check: Callable[[Served], object] = lambda served: None,
        **options: Any,
    ):
        self._make = partial(Version, **options)
        self._changed, self._check = changed, check
        self._by_identity = self._versions_of(served)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._replacing = asyncio.Lock()

    def __iter__(self) -> Iterator[Version]:
        return iter(self._by_identity.values())

    def __getitem__(self, identity: str) -> Version:
        return self._by_identity[identity]

    def __contains__(self, identity: object) -> bool:
        return identity in self._by_identity

    @property
    def identities(self) -> list[str]:
        """Model ids, the first one being that of requests that name none."""
        return [*self._by_identity]

    @property
    def first(self) -> Version:
        """The version of requests that name none."""
        return next(iter(self))

    @property
    def queued(self) -> int:
        """Samples that wait."""
        return sum(version.batcher.queued for version in self)

    @property
    def open(self) -> bool:
        """Whether requests are answered."""
        return all(version.batcher.open for version in self)

    def asked(self, path: str | None, parameter: object) -> Version:
        """Return the version that a request names, by its path, its parameter or not at all.

        Raises:
            WireError: If there is none, or the two are not the same.
        """
        named = self.first.identity if parameter is path is None else parameter or path
        expected = [path] if path in self else self.identities
        if not isinstance(named, str) or named not in expected:
            raise WireError(f"{WRONG_MODEL}{' or '.join(expected)}; received {brief(named)}")
        return self[named]

    def lack(self) -> str | None:
        """Return why no version has room for a sample now, None if one has."""
        reasons = [version.batcher.lack(1) for version in self]
        return reasons[0] if all(reasons) else None

    async def replace(self, served: Sequence[Served]) -> None:
        """Serve these versions from now on.

        Those that are served already go on undisturbed. Those that are not to be served any more
        take no new requests, and answer the ones that they have.

        Raises:
            ValueError: As `Versions` does; all is then as before.
        """
        async with self._replacing:
            new, old = self._versions_of(served), {*self}
            for version in {*new.values()} - old:
                await version.batcher.__aenter__()
            # No request is between its version and that version's queue: nothing is awaited there.
            self._by_identity = new
            self._changed()
            log.info("serving model %s", ", ".join(new), extra=EACH_TIME)
            await asyncio.gather(*(version.close() for version in old - {*new.values()}))

    def reload(self, load: Callable[[], Sequence[Served]]) -> concurrent.futures.Future[None]:
        """Load other versions, while those that are there go on, and `replace` them; by any thread.

        Args:
            load: Returns what to serve. What it raises is logged, and all is as before.

        Returns:
            A future, done when what is no longer served has answered its last request.

        Raises:
            Unavailable: If the service is not running.
        """
        if self._loop is None:
            raise Unavailable("the service is not running")

        async def reloaded() -> None:
            try:
                await self.replace(await asyncio.to_thread(load))
            except Exception as error:
                reason = " ".join(str(error).split())
                served = ", ".join(self.identities)
                log.error("model %s is served on: %s", served, reason, extra=EACH_TIME)
                raise

        return asyncio.run_coroutine_threadsafe(reloaded(), self._loop)

    async def __aenter__(self) -> "Versions":
        for version in self:
            await version.batcher.__aenter__()
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loop = None
        async with self._replacing:
            await asyncio.gather(*(version.close() for version in self))

    def _versions_of(self, served: Sequence[Served]) -> dict[str, Version]:
        there = {id(v.served): v for v in getattr(self, "_by_identity", {}).values()}
        for one in served:
            self._check(one)
        made = [there.get(id(one)) or self._make(one) for one in served]
        found = {version.identity: version for version in made}
        if not served or len(found) < len(served):
            received = ", ".join(one.identity for one in served) or "none"
            raise ValueError(f"expected one or more different versions; received {received}")
        return found

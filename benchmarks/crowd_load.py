"""A crowd of clients in a process of its own: asyncio without any library's client.

Every kind of client goes to loopback alone and ends by itself after a number of seconds.
"""

import asyncio
import multiprocessing
import random
import resource
import time
from collections import Counter

HOST = "127.0.0.1"
OPENINGS_A_STEP = 50  # so that a crowd does not overrun the backlog of its own making
DEADLINE = 0.25  # seconds that a device waits for an answer
PIECE = 1 << 16  # bytes of a long body at a time
FAILURES, REST = 3, 1.0  # in a row; seconds that a device then leaves the cloud alone


class Crowd:
    """A number of clients of one kind, while `with` lasts; `result()` waits for their end.

    Args:
        kind: "idle", "rude", "rude_anew", "device" or "heavy"; see the classes below.
        port: Port of the service, on loopback.
        clients: How many.
        seconds: For how long, at most.
        request: The bytes of one request.
        warm: Seconds at the beginning that are not counted.
    """

    def __init__(self, kind, port, clients, seconds, request=b"", warm=0.0):
        context = multiprocessing.get_context("spawn")
        self._results, results = context.Pipe(duplex=False)
        arguments = (results, kind, port, clients, seconds, request, warm)
        self._process = context.Process(target=_run, args=arguments, daemon=True)

    def __enter__(self):
        self._process.start()
        if self._results.recv() != "ready":
            raise RuntimeError("the load generator did not start")
        return self

    def result(self) -> Counter:
        """Return what was counted, by status of HTTP or by what happened."""
        return self._results.recv()

    def __exit__(self, *_):
        self._process.terminate()
        self._process.join()


def _run(results, kind, port, clients, seconds, request, warm) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, clients + 100), hard), hard))
    results.send("ready")
    results.send(asyncio.run(_crowd(KINDS[kind], port, clients, seconds, request, warm)))


async def _crowd(kind, port, clients, seconds, request, warm) -> Counter:
    loop = asyncio.get_running_loop()
    shared = _Shared(loop, port, request, time.monotonic() + warm, kind)
    for number in range(clients):
        shared.open_one()
        if number % OPENINGS_A_STEP == 0:
            await asyncio.sleep(0.01)
    await asyncio.sleep(seconds)
    shared.over = True
    return shared.counts


class _Shared:
    """What the clients of one crowd have in common."""

    def __init__(self, loop, port, request, begin, kind):
        self.loop, self.port, self.request, self.begin = loop, port, request, begin
        self.kind, self.counts, self.over = kind, Counter(), False
        self._opening = set()

    def count(self, what) -> None:
        if not self.over and time.monotonic() >= self.begin:
            self.counts[what] += 1

    def open_one(self, client=None) -> None:
        """Open a connection, now; a client that goes on keeps what it knows."""
        if not self.over:
            task = self.loop.create_task(self._open(client or self.kind(self)))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, client) -> None:
        try:
            await self.loop.create_connection(lambda: client, HOST, self.port)
        except OSError:
            self.count("not opened")
            self.loop.call_later(0.1, self.open_one, client)


class _Idle(asyncio.Protocol):
    """Sends nothing, and comes back as soon as it is closed."""

    def __init__(self, shared):
        self.shared = shared

    def connection_made(self, transport):
        self.shared.count("opened")

    def connection_lost(self, error):
        self.shared.open_one(self)


class _Rude(asyncio.Protocol):
    """Asks again as soon as it is answered or refused, whatever the answer says."""

    anew = False  # over a new connection

    def __init__(self, shared):
        self.shared = shared
        self.transport = None

    def connection_made(self, transport):
        self.transport, self.received = transport, b""
        self.ask()

    def ask(self):
        self.received = b""
        self.transport.write(self.shared.request)

    def data_received(self, data):
        self.received += data
        head, end, content = self.received.partition(b"\r\n\r\n")
        if end and len(content) >= _length(head):
            self.answered(int(head[9:12]), head)

    def answered(self, status, head):
        self.shared.count(status)
        self.again()

    def again(self):
        if self.anew:
            self.transport.abort()
        else:
            self.ask()

    def connection_lost(self, error):
        if not self.anew:
            self.shared.count("closed")
        self.shared.open_one(self)


class _RudeAnew(_Rude):
    """The same, over a new connection for each request."""

    anew = True


class _Device(_Rude):
    """Asks again as soon as it is answered, and else does as a device: see `serve.breaker`.

    It comes back a little after it is told to. What is late it gives up, with the connection; after
    `FAILURES` in a row it rests.
    """

    timer = None
    asking = False
    failed = 0

    def ask(self):
        if self.transport is None or self.transport.is_closing():
            self.shared.open_one(self)
            return
        super().ask()
        self.asking = True
        self.timer = self.shared.loop.call_later(DEADLINE, self.give_up)

    def answered(self, status, head):
        self.timer.cancel()
        self.shared.count(status)
        self.asking, self.failed = False, 0
        if status == 200:
            self.ask()
            return
        wait = float(_field(head, b"retry-after") or REST)
        self.shared.loop.call_later(wait * random.uniform(1.0, 1.25), self.ask)

    def give_up(self):
        self.shared.count("late")
        self.transport.abort()

    def connection_lost(self, error):
        self.timer.cancel()
        self.transport = None
        if not self.asking:  # the service has closed a connection that lay idle
            return
        self.asking = False
        self.failed += 1
        self.shared.loop.call_later(REST if self.failed >= FAILURES else 0.0, self.ask)


class _Heavy(_Rude):
    """Sends all of its body but the last byte, as it is taken, and holds the connection open."""

    sent = 0
    paused = False

    def ask(self):
        self.received, self.sent = b"", 0
        self.pump()

    def pump(self):
        while not self.paused and self.sent < len(self.shared.request):
            part = self.shared.request[self.sent : self.sent + PIECE]
            self.sent += len(part)
            self.transport.write(part)

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self.pump()

    def answered(self, status, head):
        self.shared.count(status)


KINDS = {
    "idle": _Idle,
    "rude": _Rude,
    "rude_anew": _RudeAnew,
    "device": _Device,
    "heavy": _Heavy,
}


def _length(head) -> int:
    return int(_field(head, b"content-length") or 0)


def _field(head, name) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.lower() == name:
            return value.strip()
    return None

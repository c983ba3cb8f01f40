"""A slow link between a device and a cloud on one machine: TCP, with a delay and a bandwidth."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

CHUNK = 1 << 14  # bytes read at once


@dataclass(frozen=True)
class SlowLink:
    """Forwards every connection to a server, late and slowly, alike in both directions.

    Attributes:
        host, port: Address of the server.
        round_trip: Seconds; half of them either way.
        bandwidth: Bits a second either way, shared by all connections; None for no limit.
    """

    host: str
    port: int
    round_trip: float = 0.0
    bandwidth: float | None = None

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> asyncio.Server:
        """Start to accept connections; port 0 takes a free one, that of `sockets[0]`."""
        up, down = _Lane(self), _Lane(self)

        async def forward(reader, writer):
            try:
                far_reader, far_writer = await asyncio.open_connection(self.host, self.port)
            except OSError:  # nobody there: the device sees its connection closed
                writer.close()
                return
            with suppress(asyncio.CancelledError):  # the link goes down: both sides see that
                await asyncio.gather(up.carry(reader, far_writer), down.carry(far_reader, writer))
            far_writer.close()
            writer.close()

        return await asyncio.start_server(forward, host, port)


class _Lane:
    """One direction of a link."""

    def __init__(self, link: SlowLink):
        self.delay = link.round_trip / 2
        self.seconds_per_byte = 8 / link.bandwidth if link.bandwidth else 0.0
        self.free_at = 0.0  # when what has been sent so far has left

    async def carry(self, reader, writer):
        """Deliver what comes, in order, until its end."""
        under_way = asyncio.Queue()
        delivery = asyncio.create_task(_deliver(under_way, writer))
        now = asyncio.get_running_loop().time
        with suppress(OSError):
            while chunk := await reader.read(CHUNK):
                self.free_at = max(self.free_at, now()) + len(chunk) * self.seconds_per_byte
                under_way.put_nowait((self.free_at + self.delay, chunk))
                # A full lane holds the sender back, as a full buffer would.
                await asyncio.sleep(self.free_at - now())
        under_way.put_nowait((self.free_at + self.delay, b""))
        await delivery


async def _deliver(under_way, writer):
    now = asyncio.get_running_loop().time
    with suppress(OSError):
        while True:
            at, chunk = await under_way.get()
            await asyncio.sleep(at - now())
            if not chunk:
                writer.write_eof()  # the other direction may still have something to say
                break
            writer.write(chunk)
            await writer.drain()

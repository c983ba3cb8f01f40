"""The slow link: everything arrives, in order, and not before its time."""

import asyncio
import time

import pytest

from keras_ddnn.serve.slow_link import SlowLink


async def _echo(reader, writer):
    while chunk := await reader.read(1 << 16):
        writer.write(chunk)
    writer.close()


def exchange(message: bytes, **options) -> tuple[bytes, float]:
    """Send a message to an echo behind a link; return what comes back, and after how long."""

    async def run():
        echo = await asyncio.start_server(_echo, "127.0.0.1", 0)
        link = SlowLink("127.0.0.1", echo.sockets[0].getsockname()[1], **options)
        listener = await link.listen()
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        start = time.perf_counter()
        writer.write(message)
        writer.write_eof()
        back = await reader.read(-1)
        seconds = time.perf_counter() - start
        writer.close()
        listener.close()
        echo.close()
        return back, seconds

    return asyncio.run(run())


@pytest.mark.parametrize("bandwidth", [None, 8e8])
def test_everything_comes_back_in_order(bandwidth):
    message = bytes(range(256)) * 1000
    assert exchange(message, bandwidth=bandwidth)[0] == message


def test_an_answer_takes_a_round_trip():
    back, seconds = exchange(b"hello", round_trip=0.2)
    assert back == b"hello"
    assert seconds >= 0.2


def test_a_message_takes_its_bits_over_the_bandwidth_either_way():
    # 10,000 bytes at 800,000 bits a second are a tenth of a second, there and back. The echo may
    # begin before the end has arrived, but its last byte cannot leave before that.
    _, seconds = exchange(b"x" * 10_000, bandwidth=8e5)
    assert seconds >= 0.1


def test_a_device_sees_its_connection_closed_if_nobody_is_there():
    async def run():
        listener = await SlowLink("127.0.0.1", 1).listen()
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        back = await reader.read(-1)
        writer.close()
        listener.close()
        return back

    assert asyncio.run(run()) == b""

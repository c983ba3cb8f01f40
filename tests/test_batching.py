"""Batches close when full or when the oldest has waited; a full queue refuses; nothing is lost."""

import asyncio
import re
import threading
import time

import numpy as np
import pytest

from keras_ddnn.serve.protocol.batching import Batcher, Unavailable

PATIENT = 5.0  # seconds that no test waits for


def rows(*values):
    return np.array(values, np.float32)[:, None]


def ignoring_deadlines(run):
    return lambda samples, _: run(samples)


def serve(client, run=lambda samples: 2 * samples, **limits):
    """Run a client against a batcher; return its result and the sizes of the batches."""
    sizes = []

    async def both():
        chosen = {"max_batch": 4, "max_wait": PATIENT, "max_queue": 64} | limits
        async with Batcher(ignoring_deadlines(run), observe=sizes.append, **chosen) as batcher:
            return await asyncio.wait_for(client(batcher), PATIENT - 1)

    return asyncio.run(both()), sizes


def held():
    """Return a network that does not answer, and the event that lets it."""
    release = threading.Event()

    def run(samples):
        assert release.wait(PATIENT)
        return samples

    return run, release


def test_a_full_batch_does_not_wait_and_everyone_gets_their_own_answers():
    async def client(batcher):
        return await asyncio.gather(
            *(batcher.submit(rows(*request)) for request in ([1], [2, 3], [4]))
        )

    answers, sizes = serve(client)
    assert [answer[:, 0].tolist() for answer in answers] == [[2], [4, 6], [8]]
    assert sizes == [4]


def test_a_batch_closes_when_its_oldest_has_waited():
    answer, sizes = serve(lambda batcher: batcher.submit(rows(1)), max_wait=0.01)
    assert (answer.tolist(), sizes) == ([[2]], [1])


def test_a_lone_client_is_not_kept_waiting():
    async def client(batcher):
        await batcher.submit(rows(1, 2, 3, 4))  # a whole batch of one request
        for n in range(3):  # each would wait longer than the test does
            await batcher.submit(rows(n))

    _, sizes = serve(client)
    assert sizes == [4, 1, 1, 1]


def test_clients_that_came_together_are_waited_for():
    async def client(batcher):
        await asyncio.gather(batcher.submit(rows(1, 2)), batcher.submit(rows(3, 4)))
        first = asyncio.create_task(batcher.submit(rows(5, 6)))
        await asyncio.sleep(0.02)
        await asyncio.gather(first, batcher.submit(rows(7, 8)))

    _, sizes = serve(client)
    assert sizes == [4, 4]


def test_a_request_of_more_than_a_batch_is_answered_alone():
    answer, sizes = serve(lambda batcher: batcher.submit(rows(*range(9))))
    assert (len(answer), sizes) == (9, [9])


def test_what_waits_while_the_network_works_makes_the_next_batch():
    run, release = held()

    async def client(batcher):
        first = asyncio.create_task(batcher.submit(rows(1)))
        await asyncio.sleep(0.05)  # its batch of one has closed
        others = [asyncio.create_task(batcher.submit(rows(n))) for n in (2, 3, 4)]
        await asyncio.sleep(0.02)
        release.set()
        await asyncio.gather(first, *others)

    _, sizes = serve(client, run, max_wait=0.001)
    assert sizes == [1, 3]


def test_a_full_queue_refuses_at_once_and_serves_on():
    run, release = held()

    async def client(batcher):
        first = asyncio.create_task(batcher.submit(rows(1)))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(batcher.submit(rows(2, 3)))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="2 of 2 samples wait already"):
            await batcher.submit(rows(4))
        release.set()
        await asyncio.gather(first, waiting)
        return await batcher.submit(rows(5))

    answer, _ = serve(client, run, max_wait=0.0, max_queue=2)
    assert answer.tolist() == [[5]]


def test_a_network_that_fails_tells_its_clients_and_is_tried_again():
    def run(samples):
        if samples[0, 0] < 0:
            raise ZeroDivisionError
        return samples

    async def client(batcher):
        with pytest.raises(Unavailable, match="the network failed"):
            await batcher.submit(rows(-1))
        return await batcher.submit(rows(1))

    assert serve(client, run, max_wait=0.0)[0].tolist() == [[1]]


def test_a_client_that_leaves_takes_nothing_from_the_others():
    async def client(batcher):
        gone = asyncio.create_task(batcher.submit(rows(1)))
        stays = asyncio.create_task(batcher.submit(rows(2)))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert serve(client, max_wait=0.02)[0].tolist() == [[4]]


def test_the_end_answers_what_waits_and_refuses_what_comes_later():
    async def both():
        run, limits = ignoring_deadlines(np.negative), {"max_batch": 9, "max_queue": 9}
        async with Batcher(run, max_wait=PATIENT, **limits) as batcher:
            waiting = asyncio.create_task(batcher.submit(rows(1)))
            await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="not running"):
            await batcher.submit(rows(2))
        return await waiting

    assert asyncio.run(both()).tolist() == [[-1]]


def test_a_batch_has_the_earliest_deadline_of_its_requests():
    async def client(batcher):
        await asyncio.gather(
            *(batcher.submit(rows(0, 0), deadline) for deadline in (7.0, 5.0)),
        )

    deadlines = []

    async def both():
        def run(samples, deadline):
            deadlines.append(deadline)
            return samples

        async with Batcher(run, max_batch=4, max_wait=PATIENT, max_queue=9) as batcher:
            await client(batcher)

    asyncio.run(both())
    assert deadlines == [5.0]


def test_a_batch_that_waits_for_another_machine_holds_up_no_other():
    first, second = threading.Event(), threading.Event()

    def run(samples):
        own, other = (first, second) if samples[0, 0] else (second, first)
        own.set()
        assert other.wait(PATIENT)  # each batch ends only while the other one runs
        return samples

    async def client(batcher):
        return await asyncio.gather(*(batcher.submit(rows(n)) for n in (0, 1)))

    answers, sizes = serve(client, run, max_batch=1, max_wait=0.0, at_once=2)
    assert [answer.tolist() for answer in answers] == [[[0]], [[1]]]
    assert sizes == [1, 1]


@pytest.mark.parametrize("wrong", [{"max_batch": 0}, {"max_queue": 0}, {"max_wait": -1.0}])
def test_limits_out_of_range_are_refused(wrong):
    limits = {"max_batch": 1, "max_wait": 0.0, "max_queue": 1} | wrong
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Batcher(np.negative, **limits)


def test_what_would_wait_too_long_is_refused_but_a_batch_may_gather():
    def run(samples):
        time.sleep(0.05)
        return samples

    async def client(batcher):
        for _ in range(20):  # batches of 4 that take 0.05 s each
            await batcher.submit(rows(1, 2, 3, 4))
        waiting = []
        while not (refused := batcher.lack(1)):
            waiting.append(asyncio.create_task(batcher.submit(rows(0))))
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        return len(waiting), refused, batcher.lack(4)

    (waited, refused, afterwards), _ = serve(client, run, max_wait=0.01, max_delay=0.18)
    assert 4 <= waited < 16
    assert re.fullmatch(r"\d+ samples wait already, for \d+ ms", refused)
    assert afterwards is None
    with pytest.raises(ValueError, match="max_delay must be"):
        Batcher(run, max_batch=1, max_wait=0.0, max_queue=1, max_delay=0.0)

import pytest

from tune.cluster import environment, resources_of, start


@pytest.mark.parametrize(
    ("backbones", "cores", "threads"),
    [
        (5, [2], 1),  # two at a time are faster than one after the other
        (2, [2], 1),
        (1, [2], 2),
        (3, [8], 2),
        (1, [4, 2], 4),  # a worker does not reach beyond its host
        (2, [1, 1], 1),
    ],
)
def test_no_core_stays_idle_while_backbones_are_few(backbones, cores, threads):
    resources = resources_of(backbones, [{"CPU": float(n)} for n in cores])
    assert resources["num_cpus"] == threads
    assert resources["num_gpus"] == 0  # or Ray would hide those that are there
    assert resources["runtime_env"]["env_vars"] == environment(threads)
    assert environment(threads)["TF_NUM_INTRAOP_THREADS"] == str(threads)


def test_a_backbone_has_a_gpu_to_itself_where_there_are_any():
    assert resources_of(4, [{"CPU": 8.0, "GPU": 2.0}])["num_gpus"] == 1


def test_the_address_that_another_ray_has_left_is_not_followed(monkeypatch):
    import ray

    # As the file that a killed `ray start` leaves behind, to which `ray.init()` would connect.
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    ray.shutdown()  # of a test before it, which `start` would keep
    start(None, num_cpus=1)
    try:
        assert ray.cluster_resources()["CPU"] == 1
    finally:
        ray.shutdown()

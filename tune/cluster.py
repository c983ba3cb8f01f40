"""Ray: this machine or a running cluster, and what a worker may use of it."""

# Ray's own OMP_NUM_THREADS does not bind TensorFlow. With one thread a worker, sums are made in one
# order, and a search repeats to the last bit.
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def start(address: str | None, num_cpus: int | None) -> None:
    """Attach to a cluster, or start Ray on this machine, unless this process has done so already.

    Args:
        address: Of a running cluster; None for a Ray of its own on this machine, whatever other
            Ray runs there or has left its address behind.
        num_cpus: Of this machine; all by default.
    """
    import ray

    if not ray.is_initialized():
        ray.init(
            address=address or "local",
            runtime_env={"env_vars": environment(threads=1)},
            logging_level="error",
            log_to_driver=False,
            **({} if address else {"num_cpus": num_cpus, "include_dashboard": False}),
        )


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a worker that computes with so many threads."""
    return dict.fromkeys(THREADS, str(threads)) | {"TF_CPP_MIN_LOG_LEVEL": "3"}


def here():
    """Return the scheduling strategy that keeps an actor on this host.

    A worker of the cluster may be lost; what the driver cannot do without must not be on it.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def resources_of(backbones: int, hosts: list[dict[str, float]]) -> dict:
    """Return the options of the Ray task that trains one of several backbones.

    They follow from the search and the cluster, not from what is trained already: a backbone that
    is trained after an interruption comes out as it would have.

    Args:
        backbones: How many the search has. Two at a time on a core each are faster than one after
            the other on both; only where cores would stay idle does one get more of them.
        hosts: "CPU" and "GPU" of each host.
    """
    cores = sum(int(host.get("CPU", 0)) for host in hosts)
    largest = max(int(host.get("CPU", 0)) for host in hosts)
    threads = max(1, min(largest, cores // backbones))
    gpu = any(host.get("GPU", 0) >= 1 for host in hosts)
    return {
        "num_cpus": threads,
        "num_gpus": int(gpu),
        "runtime_env": {"env_vars": environment(threads)},
    }

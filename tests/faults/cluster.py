"""A real cluster on one machine: a head and a second node, each with processes of its own, the second of them lost."""

import json
import os
import subprocess
import sys
import time

# Ray reports its use over the network unless told not to.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# A busy machine may need more than the half minute that Ray gives a node to start.
os.environ |= {"RAY_raylet_start_wait_time_s": "180", "RAY_agent_register_timeout_ms": "180000"}


def sweep_and_lose_a_node(grid, out, lost_after, limit=1200):
    """Sweep on two nodes; the second is killed when ``lost_after`` records have come.

    Returns:
        int exit code, str what was printed, int records there were when the node was killed.
    """
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=1, include_dashboard=False)
        second = cluster.add_node(num_cpus=1)
        command = [sys.executable, "-m", "effnet_utils", "sweep", grid, "--out", out, "--ray", cluster.address]
        sweep = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        until = time.monotonic() + limit
        while len(list(out.glob("*/record.json"))) < lost_after:
            if sweep.poll() is not None or time.monotonic() > until:
                sweep.kill()
                raise AssertionError(f"no {lost_after} records came: {sweep.communicate()[0][-2000:]}")
            time.sleep(0.2)
        there = len(list(out.glob("*/record.json")))
        cluster.remove_node(second, allow_graceful=False)
        printed = sweep.communicate(timeout=limit)[0]
        return sweep.returncode, printed, there
    finally:
        cluster.shutdown()


def records(out):
    """The parameters of all records."""
    return [json.loads(path.read_text())["parameters"] for path in sorted(out.glob("*/record.json"))]

"""A Ray cluster on the loopback interface for tests: a head without room for cells, and nodes with
room for one each.

A process of its own, told what to do by lines: variables as JSON start a node that has them and
answer with its raylet's process id; `end` or the end of the input shuts everything down.
"""

import json
import sys

from ray.cluster_utils import Cluster

STORE = 100 * 2**20  # bytes of a node's object store


def main() -> None:
    """Answers each line with a line of JSON."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False},
    )
    print(json.dumps(cluster.address), flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        node = cluster.add_node(env_vars=json.loads(line), num_cpus=1, object_store_memory=STORE)
        print(json.dumps(node.all_processes["raylet"][0].process.pid), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()

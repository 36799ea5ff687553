"""A Ray of its own with one Serve application; prints its metrics once these names are there: `python -m … PORT NAME…`.

For tests, as a process of its own: Ray keeps state in the process that starts it. What must not live here: tests.
"""

from __future__ import annotations

import re
import sys
import time
import urllib.request

OBJECT_STORE_BYTES = 100 * 2**20
WAIT_S = 90.0
"""Serve tells each metric within some seconds; on a busy machine they are many."""
NAME = re.compile(r"^(\w+)\{", re.MULTILINE)


def page(port: int, names: set[str]) -> str:
    """Ray's metrics, with all of these names or as they are after a while."""
    deadline_s = time.monotonic() + WAIT_S
    text = ""
    while time.monotonic() < deadline_s and names - set(NAME.findall(text)):
        time.sleep(0.5)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except OSError:
            continue
    return text


def main(folder: str, metrics_port: int, http_port: int, names: set[str]) -> None:
    """Start Ray, deploy, print, stop.

    Args:
        folder: of Ray's sockets and logs; short, since a socket's path is.
        metrics_port: where Ray tells its metrics.
        http_port: of Serve's proxy.
        names: to wait for.
    """
    import ray
    from ray import serve

    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        num_cpus=2,
        object_store_memory=OBJECT_STORE_BYTES,
        _metrics_export_port=metrics_port,
        _temp_dir=folder,
    )
    try:

        @serve.deployment(
            autoscaling_config={"min_replicas": 1, "max_replicas": 2}, ray_actor_options={"num_cpus": 0.1}
        )
        class Answers:
            async def __call__(self) -> str:
                return "ok"

        serve.start(http_options={"host": "127.0.0.1", "port": http_port})
        serve.run(Answers.bind(), name="pool", route_prefix="/")
        sys.stdout.write(page(metrics_port, names))
        sys.stdout.flush()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), set(sys.argv[4:]))

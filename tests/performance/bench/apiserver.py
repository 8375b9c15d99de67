"""The test API server as a process of its own, so that it does not share a processor's lock with who measures.

`python -m tests.performance.bench.apiserver KUBECONFIG` writes the file when it serves, and runs until SIGTERM.
"""

import signal
import sys
import threading
from pathlib import Path

from tests.support.apiserver import ApiServer


def main() -> None:
    """Serve until SIGTERM."""
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    server = ApiServer()
    try:
        target = Path(sys.argv[1])
        server.write_kubeconfig(target.with_suffix(".new")).rename(target)
        done.wait()
    finally:
        server.close()


if __name__ == "__main__":
    main()

"""Kills what a Nomad agent left behind, once the process that started the agent is gone.

Nomad's tasks outlive its agent on purpose, so no parent-death signal reaches them. This module runs as a process of its
own: `python -m secretbinding.devstack.nomad_guard <directory>`. It waits until its standard input ends, which happens
when the starter closes it or dies, and then cleans up.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    """Wait for the end of standard input, then clean up."""
    sys.stdin.buffer.read()
    clean_up(Path(sys.argv[1]))


def clean_up(directory: Path) -> None:
    """Kill all executors and tasks of agents whose data is in this directory, and detach what Nomad mounted in it."""
    marker = os.fsencode(str(directory.resolve())) + b"/"
    for _ in range(5):
        found = False
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                environ = (entry / "environ").read_bytes()
                command = (entry / "cmdline").read_bytes()
                if b"NOMAD_ALLOC_DIR=" + marker in environ or (b"\0executor\0" in command and marker in command):
                    found = True
                    os.kill(int(entry.name), signal.SIGKILL)
        if not found:
            break
        time.sleep(0.1)
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            target = line.split(" ")[1].replace("\\040", " ")
            if os.fsencode(target).startswith(marker):
                subprocess.run(["umount", "-l", target], check=False, capture_output=True)


if __name__ == "__main__":
    main()

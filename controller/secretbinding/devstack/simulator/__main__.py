"""The simulator as a process: `python -m secretbinding.devstack.simulator --openbao http://127.0.0.1:8200`."""

import argparse
import signal
import threading

from secretbinding.devstack.simulator.simulator import TEMPLATE_POLL_SECONDS, Simulator


def main() -> None:
    """Serve until SIGTERM or SIGINT; prints the address, and the management token's value never."""
    parser = argparse.ArgumentParser(prog="nomad-simulator", description=__doc__)
    parser.add_argument("--openbao", required=True, metavar="URL", help="address of OpenBao or Vault")
    parser.add_argument("--port", type=int, default=0, help="port on loopback; a free one by default")
    parser.add_argument(
        "--template-poll-seconds", type=float, default=TEMPLATE_POLL_SECONDS, help="how often templates are read again"
    )
    arguments = parser.parse_args()
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with Simulator(
        vault_address=arguments.openbao,
        port=arguments.port,
        template_poll_seconds=arguments.template_poll_seconds,
    ) as simulator:
        print(simulator.address, flush=True)
        done.wait()


if __name__ == "__main__":
    main()

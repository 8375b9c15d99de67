"""What looks Vault up, for a connection whose address asks for it."""

import time
from dataclasses import replace

from secretbinding.adapters.connection import VaultConnection
from secretbinding.adapters.discovery.address import SrvAddress, discovered
from secretbinding.adapters.discovery.consul import ConsulService
from secretbinding.adapters.discovery.nodes import Nodes
from secretbinding.adapters.discovery.srv import SrvRecords


def nodes_of(connection: VaultConnection) -> Nodes | None:
    """The nodes of a Vault that is to be looked up; None for one whose address is given. Raises `UsageError`."""
    found = discovered(connection.address)
    if found is None:
        return None
    seconds = connection.connect_timeout_seconds
    if isinstance(found, SrvAddress):
        return Nodes(SrvRecords(found, timeout_seconds=seconds), time.monotonic)
    # Vault's own retries ask again, and one thread at a time asks.
    consul = replace(
        connection.consul,
        address=found.consul,
        timeout_seconds=seconds,
        retry_seconds=0.0,
        pool_size=1,
        long_pool_size=1,
    )
    service = ConsulService(found, consul)
    return Nodes(service, time.monotonic, service.close)

"""Where the nodes of a Vault are that is found by name: by SRV records, or in Consul's catalogue."""

from secretbinding.adapters.discovery.address import ConsulAddress, SrvAddress, discovered, plain_address

__all__ = ["ConsulAddress", "SrvAddress", "discovered", "plain_address"]

"""A simulator of the part of Nomad that this project uses, for machines without a real one.

It keeps Nomad's HTTP API (status codes, bodies, headers, JSON shapes) for jobs, deployments, allocations,
evaluations, variables, events and ACLs; schedules rolling deployments by Nomad's rules on one node; really runs
`raw_exec` tasks; signs workload identities that log in to a real OpenBao or Vault; and renders templates. One suite of
tests runs against it and against a real Nomad.

Not simulated: several nodes or regions, services and their checks, volumes, networks, preemption, sysbatch on many
nodes, cron times of periodic jobs, HCL2 functions, Consul, quotas, drivers other than `raw_exec` and `exec`.
"""

from secretbinding.devstack.simulator.simulator import Simulator

__all__ = ["Simulator"]

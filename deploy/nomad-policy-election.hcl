# What the controller may do besides in Nomad where several of them agree by locks on variables
# (SECRETBINDING_ELECTION=nomad). A further policy for its token. The namespace is written as in the first:
# Nomad takes the rule with the closest name alone, and would take all other rights away there.
namespace "*" {
  variables {
    # Locks by which several controllers agree who works.
    path "nomad-vault/leases/*" {
      capabilities = ["read", "write"]
    }
    # Which controllers take part, where jobs are divided among them.
    path "nomad-vault/members/*" {
      capabilities = ["list", "read", "write", "destroy"]
    }
  }
}

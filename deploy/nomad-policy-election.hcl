# What the controller may do besides in Nomad where several of them agree by locks on variables
# (SECRETBINDING_ELECTION=nomad), in the namespace of SECRETBINDING_ELECTION_NAMESPACE. A further policy for
# its token.
namespace "default" {
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

# What the controller may do besides in Nomad where bindings have `auth.method: AppRole`. A second policy for its token.
namespace "*" {
  variables {
    # Wrapped secret-ids for the agent of each group, which that agent alone may read by its own identity. "list" finds those
    # of groups that are gone.
    path "nomad/jobs/*/vault-agent" {
      capabilities = ["list", "read", "write", "destroy"]
    }
  }
}

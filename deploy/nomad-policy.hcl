# secretbinding {"body":"sgxujsoldbbsapvdkyb756d7gr","instance":"default","part":"controller"}
# What the controller may do in Nomad, for instance "default": one block for each namespace that
# bindings may name, "*" for all of them.

namespace "*" {
  capabilities = [
    # Find the children of periodic and parameterized jobs, and jobs that come after their binding.
    "list-jobs",
    # Read jobs, their versions, deployments and allocations, and follow events.
    "read-job",
    # Register and plan jobs, tag versions whose deployment failed.
    "submit-job",
    # Read job files in HCL (`inject`, `doctor --job-file`); leave it out for the controller alone.
    "parse-job",
  ]

  variables {
    # Bindings, which tenants write (source `nomad`).
    path "nomad-vault/bindings/*" {
      capabilities = ["list", "read"]
    }
    # Requests to rotate, which tenants write.
    path "nomad-vault/requests/*" {
      capabilities = ["list", "read"]
    }
    # Statuses, which the controller writes and tenants only read.
    path "nomad-vault/status/*" {
      capabilities = ["list", "read", "write", "destroy"]
    }
    # Policies (SecretBindingPolicy), looked for in the controller's own namespace only. No tenant writes there.
    path "nomad-vault/policies/*" {
      capabilities = ["list", "read"]
    }
  }
}

# What the controller may do in Nomad. One block for each namespace that bindings name; "*" for all of them.
namespace "*" {
  # Read jobs, their versions, deployments, allocations and events; register, tag versions, parse HCL.
  capabilities = ["list-jobs", "read-job", "submit-job", "parse-job"]

  variables {
    # What tenants write (source `nomad`): bindings, and requests to rotate.
    path "nomad-vault/bindings/*" {
      capabilities = ["list", "read"]
    }
    path "nomad-vault/requests/*" {
      capabilities = ["list", "read"]
    }
    # What the controller writes and tenants only read.
    path "nomad-vault/status/*" {
      capabilities = ["list", "read", "write", "destroy"]
    }
  }
}

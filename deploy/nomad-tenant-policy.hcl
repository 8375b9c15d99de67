# What a tenant needs in its own Nomad namespace to declare bindings as Nomad variables. Not `nomad-vault/*`: whoever
# may write a status can forge it, and whoever may write `nomad-vault/policies/*` in the controller's own namespace allows
# himself everything.
namespace "payments" {
  variables {
    path "nomad-vault/bindings/*" {
      capabilities = ["list", "read", "write", "destroy"]
    }
    path "nomad-vault/requests/*" {
      capabilities = ["list", "read", "write", "destroy"]
    }
    path "nomad-vault/status/*" {
      capabilities = ["list", "read"]
    }
  }
}

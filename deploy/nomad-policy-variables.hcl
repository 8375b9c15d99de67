# What the controller may do besides in Nomad where bindings take values from Nomad variables (`nomadVariable`): see that
# a variable is there and when it was changed. It reads no values. A second policy for its token.
namespace "*" {
  variables {
    path "nomad/jobs*" {
      capabilities = ["list"]
    }
  }
}

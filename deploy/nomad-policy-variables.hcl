# What the controller may do besides in Nomad where bindings take values from Nomad variables
# (`nomadVariable`). A second policy for its token.
namespace "*" {
  variables {
    # Variables that bindings take values from: that they are there and when they changed, never their values.
    path "nomad/jobs*" {
      capabilities = ["list"]
    }
  }
}

# Nomad servers. Only tasks with a `vault` block of their own need `default_identity`: the controller
# gives each task its identity itself.

vault {
  enabled = true

  default_identity {
    aud  = ["vault.io"]
    env  = false
    file = false
    ttl  = "1h"
  }
}

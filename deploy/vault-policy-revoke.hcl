# What `secretbinding revoke` may do in Vault or OpenBao: for a person's token, never the controller's.
# Whoever has it can end every token of the namespace. No path here gives a token or a value.

# Accessors of all tokens.
path "auth/token/accessors" {
  capabilities = ["list", "sudo"]
}

# By which role a token was got.
path "auth/token/lookup-accessor" {
  capabilities = ["create", "update"]
}

# Revoke it.
path "auth/token/revoke-accessor" {
  capabilities = ["create", "update"]
}

# Which roles are there still, for `--deleted`.
path "auth/jwt-nomad/role" {
  capabilities = ["list"]
}

# The same of agents that log in by AppRole.
path "auth/approle-nomad/role" {
  capabilities = ["list"]
}

# When the controller's own token ends: for a metric, and for doctor.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

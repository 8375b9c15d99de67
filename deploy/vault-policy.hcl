# What the controller may do in Vault or OpenBao, for instance "default" and the auth mount "jwt-nomad".
# Another instance or mount: replace "nsb.default." and "jwt-nomad". No path here gives a secret's value.

# The ACL policies of this instance; their names all begin with its prefix.
path "sys/policies/acl/nsb.default.*" {
  capabilities = ["create", "read", "update", "delete"]
}

# Names of all policies: to find those whose binding is gone.
path "sys/policies/acl" {
  capabilities = ["list"]
}

# The login roles of this instance.
path "auth/jwt-nomad/role/nsb.default.*" {
  capabilities = ["create", "read", "update", "delete"]
}

# Whether a KV mount has version 1 or 2. Leave it out when every binding says `engine`.
path "sys/internal/ui/mounts/*" {
  capabilities = ["read"]
}

# For each KV v2 mount that bindings may use: versions and field names, never values.
path "secret/metadata/*" {
  capabilities = ["read"]
}
path "secret/subkeys/*" {
  capabilities = ["read"]
}

# The same of all secrets of a folder at once. OpenBao only; without it each secret is read by itself.
path "secret/detailed-metadata/*" {
  capabilities = ["list"]
}

# For each database engine that bindings may use: when Vault last rotated a static role's password, and how long the
# credentials of a role live. Passwords are at `static-creds` and `creds`, which are not here.
path "database/static-roles/*" {
  capabilities = ["read"]
}
path "database/roles/*" {
  capabilities = ["read"]
}

# For each PKI engine: which issuer a role has, and how long its certificates live. Issuers are open to everybody.
path "pki/roles/*" {
  capabilities = ["read"]
}

# How long leases and certificates live where a role leaves it to its mount. Leave it out when every role says it.
path "sys/mounts/database/tune" {
  capabilities = ["read"]
}
path "sys/mounts/pki/tune" {
  capabilities = ["read"]
}

# When the controller's own token ends, for a metric. Leave it out, and that metric is missing.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

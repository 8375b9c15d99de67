# secretbinding {"body":"azkxkkol24is6lcpda5ah2ypkk","instance":"default","part":"controller"}
# What the controller may do in Vault or OpenBao, for instance "default" and the auth mount "jwt-nomad".
# No path here gives a secret's value.

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

# KV mount `secret`: versions of secrets, never values.
path "secret/metadata/*" {
  capabilities = ["read"]
}

# Field names of a version, so that one that lacks a field is not rolled.
path "secret/subkeys/*" {
  capabilities = ["read"]
}

# The versions of all secrets of a folder at once. OpenBao only; without it each is read by itself.
path "secret/detailed-metadata/*" {
  capabilities = ["list"]
}

# How many versions the mount keeps, so that jobs roll before the one that they use is pruned. Leave it out where the
# mount sets no `max_versions`.
path "secret/config" {
  capabilities = ["read"]
}

# Database mount `database`: when a static role's password was last rotated, and that no two roles take one user.
# Passwords are at `static-creds`.
path "database/static-roles/*" {
  capabilities = ["list", "read"]
}

# How long the credentials of a role live. Credentials are at `creds`.
path "database/roles/*" {
  capabilities = ["read"]
}

# How long what it gives out lives where a role leaves that to the mount.
path "sys/mounts/database/tune" {
  capabilities = ["read"]
}

# PKI mount `pki`: which issuer a role has, how long certificates live. Issuers are public.
path "pki/roles/*" {
  capabilities = ["read"]
}

# How long what it gives out lives where a role leaves that to the mount.
path "sys/mounts/pki/tune" {
  capabilities = ["read"]
}

# When the controller's own token ends: for a metric, and for doctor.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

# Keep it alive.
path "auth/token/renew-self" {
  capabilities = ["update"]
}

# Leave no token behind at the end of a process that logged in by itself.
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

# What it may do, for doctor.
path "sys/capabilities-self" {
  capabilities = ["update"]
}

# secretbinding {"body":"haol7vnfcepqs3g5yzc3wyjs2u","instance":"default","part":"controller"}
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

# Whether a KV mount has version 1 or 2, and how long what a mount gives out lives.
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

# Database mount `database`: when a static role was rotated, never its password.
path "database/static-roles/*" {
  capabilities = ["read"]
}

# How long the credentials of a dynamic role live.
path "database/roles/*" {
  capabilities = ["read"]
}

# PKI mount `pki`: how long certificates live, and who issues them. The issuer itself is public.
path "pki/roles/*" {
  capabilities = ["read"]
}

# The controller's own token: how long it lives.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

# Keep it alive: Nomad's client, Vault Agent and `vault token renew` do.
path "auth/token/renew-self" {
  capabilities = ["update"]
}

# What it may do, for doctor.
path "sys/capabilities-self" {
  capabilities = ["update"]
}

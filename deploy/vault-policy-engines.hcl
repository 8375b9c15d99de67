# What the controller may do besides in Vault or OpenBao, for instance "default": a second policy for its token, of which
# you keep the blocks that you need. No path here gives a secret's value.

# --- Further engines, each for the mount that bindings may use ---

# KV mount `kv` of version 1: that it is of version 1. There is nothing else to see; leave it out when every binding
# says `engine`.
path "sys/mounts/kv/tune" {
  capabilities = ["read"]
}

# SSH mount `ssh`: how long what a role gives lives.
path "ssh/roles/*" {
  capabilities = ["read"]
}

# How long what it gives out lives where a role leaves that to the mount.
path "sys/mounts/ssh/tune" {
  capabilities = ["read"]
}

# Transit mount `transit`: what a key can do. Keys are at `export`.
path "transit/keys/*" {
  capabilities = ["read"]
}

# AWS mount `aws`: what kind a role is of. Credentials are at `creds` and `sts`.
path "aws/roles/*" {
  capabilities = ["read"]
}

# How long credentials of users live.
path "aws/config/lease" {
  capabilities = ["read"]
}

# How long what it gives out lives where a role leaves that to the mount.
path "sys/mounts/aws/tune" {
  capabilities = ["read"]
}

# GCP mount `gcp`: what kind a roleset is of.
path "gcp/roleset/+" {
  capabilities = ["read"]
}

# The same for static accounts.
path "gcp/static-account/+" {
  capabilities = ["read"]
}

# The same for impersonated accounts.
path "gcp/impersonated-account/+" {
  capabilities = ["read"]
}

# How long keys live; the engine's own credentials are not shown.
path "gcp/config" {
  capabilities = ["read"]
}

# How long what it gives out lives where a role leaves that to the mount.
path "sys/mounts/gcp/tune" {
  capabilities = ["read"]
}

# Azure mount `azure`: how long credentials of a role live. They are at `creds`.
path "azure/roles/*" {
  capabilities = ["read"]
}

# How long what it gives out lives where a role leaves that to the mount.
path "sys/mounts/azure/tune" {
  capabilities = ["read"]
}

# --- Roles that bindings have made (`create`) ---
# Whoever may write a binding decides then what such a role does, within the connections and issuers
# that the engine has. Give these only where you trust the people who write bindings.

# Roles that bindings have made for them (`create`): who may bind so can run SQL as Vault's own user.
path "database/roles/nsb.default.*" {
  capabilities = ["create", "read", "update", "delete"]
}

# The same for static roles.
path "database/static-roles/nsb.default.*" {
  capabilities = ["create", "read", "update", "delete"]
}

# Roles that bindings have made for them (`create`).
path "pki/roles/nsb.default.*" {
  capabilities = ["create", "read", "update", "delete"]
}

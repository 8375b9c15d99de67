# What the controller may do besides in Vault or OpenBao, for instance "default": a second policy for its token, of which
# you keep the blocks that you need. No path here gives a secret's value.

# --- Further engines, each for the mount that bindings may use -----------------------------------------------------------

# KV version 1: that it is of version 1. There is nothing else to see; leave it out when every binding says `engine`.
path "sys/mounts/kv/tune" {
  capabilities = ["read"]
}

# SSH: how long certificates live, and of which type a role is. Certificates are at `issue` and `sign`, passwords at
# `creds`, which are not here.
path "ssh/roles/*" {
  capabilities = ["read"]
}
# How long they live where a role leaves it to its mount. Leave it out when every role says it.
path "sys/mounts/ssh/tune" {
  capabilities = ["read"]
}

# Transit: that a key is there, and what its type can do. No key material: that is at `export`, which is not here.
path "transit/keys/*" {
  capabilities = ["read"]
}

# AWS: what a role gives, and how long it lives.
path "aws/roles/*" {
  capabilities = ["read"]
}
path "aws/config/lease" {
  capabilities = ["read"]
}
path "sys/mounts/aws/tune" {
  capabilities = ["read"]
}

# Google Cloud: what an account gives, and how long keys live. Tokens and keys are one level below, which is not here.
path "gcp/roleset/+" {
  capabilities = ["read"]
}
path "gcp/static-account/+" {
  capabilities = ["read"]
}
path "gcp/impersonated-account/+" {
  capabilities = ["read"]
}
path "gcp/config" {
  capabilities = ["read"]
}
path "sys/mounts/gcp/tune" {
  capabilities = ["read"]
}

# Azure: how long a role's credentials live.
path "azure/roles/*" {
  capabilities = ["read"]
}
path "sys/mounts/azure/tune" {
  capabilities = ["read"]
}

# --- Roles that bindings have made (`create`) ----------------------------------------------------------------------------
# Whoever may write a binding decides then what such a role does, within the connections and issuers that the engine has:
# a database role runs SQL as the connection's user. Give these only where you trust the people who write bindings.

path "database/roles/nsb.default.*" {
  capabilities = ["create", "read", "update", "delete"]
}
path "database/static-roles/nsb.default.*" {
  capabilities = ["create", "read", "update", "delete"]
}
path "pki/roles/nsb.default.*" {
  capabilities = ["create", "read", "update", "delete"]
}

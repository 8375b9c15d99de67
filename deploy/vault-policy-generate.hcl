# What the controller may do in Vault or OpenBao beside vault-policy.hcl, where bindings have new values made
# (spec.rotation.generate). Nothing of it is needed otherwise. Give each path to no more than what is to be made: whoever
# may write a binding can have the controller do there what stands here. No line gives a secret's value.

# A new version of a KV v2 secret, with new values for some fields; the others stay, and nothing is read.
# `create` only where the secret may not be there yet.
path "secret/data/myapp" {
  capabilities = ["patch", "create"]
}

# A password policy that makes values (passwordPolicy).
path "sys/policies/password/strong/generate" {
  capabilities = ["read"]
}

# Secret-ids of an AppRole (secretIdOf), and destroying one that could not be written where it belongs.
path "auth/approle/role/payments/secret-id" {
  capabilities = ["update"]
}
path "auth/approle/role/payments/secret-id-accessor/destroy" {
  capabilities = ["update"]
}

# The password of a database's static role.
path "database/rotate-role/myapp" {
  capabilities = ["update"]
}

# The root password of a database connection (rotateRoot).
path "database/rotate-root/main" {
  capabilities = ["update"]
}

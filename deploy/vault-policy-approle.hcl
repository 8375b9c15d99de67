# What the controller may do besides in Vault or OpenBao where bindings have `auth.method: AppRole`. A second policy for its
# token, for the AppRole auth mount `approle-nomad`, which has to be the controller's alone: nobody else's roles may be there.
#
# Think before you give it. Vault cannot limit which policies such a role grants: with these lines, whoever has the
# controller's token can make a role with any policy, and log in by it. Without them the worst that it can do is bound to
# Nomad's workload identities.

# The AppRoles. Vault takes a `+` for a whole segment only, so that the instance's prefix cannot be named here.
path "auth/approle-nomad/role/+" {
  capabilities = ["create", "read", "update", "delete"]
}

# Secret-ids, wrapped only: an answer that shows one is refused.
path "auth/approle-nomad/role/+/secret-id" {
  capabilities = ["update"]
  min_wrapping_ttl = "1s"
  max_wrapping_ttl = "720h"
}

# Whether somebody has logged in with a secret-id; the accessor does not give it away.
path "auth/approle-nomad/role/+/secret-id-accessor/lookup" {
  capabilities = ["update"]
}

# Destroy one that is replaced, or that somebody else has unwrapped.
path "auth/approle-nomad/role/+/secret-id-accessor/destroy" {
  capabilities = ["update"]
}

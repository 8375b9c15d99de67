# The older form, with a token. Gone since Nomad 1.10.0: an agent still starts with it, ignores `token`,
# and no task gets a token by it. Bindings need the form in client.hcl, which Nomad has since 1.7.0.

vault {
  enabled = true
  address = "http://vault.service.consul:8200"
  token   = "<nomad-vault-token>"
}

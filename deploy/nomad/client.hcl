# Nomad clients: where Vault is, and where workload identities log in.

vault {
  enabled               = true
  address               = "http://vault.service.consul:8200"
  jwt_auth_backend_path = "jwt-nomad"
}

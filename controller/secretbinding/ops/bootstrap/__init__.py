"""`bootstrap`: bring a Vault and a Nomad to the state that the controller needs. Desired state, plan, apply."""

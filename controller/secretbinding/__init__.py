"""SecretBinding: a controller that keeps Nomad jobs supplied with Vault secrets."""

__version__ = "0.1.0"

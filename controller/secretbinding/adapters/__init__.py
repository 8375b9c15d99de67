"""The only modules that import hvac, python-nomad or a Kubernetes client: they fulfil the protocols of `ports`."""

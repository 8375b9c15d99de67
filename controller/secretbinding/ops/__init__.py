"""What people do around the controller: set up a Nomad and a Vault for it (`bootstrap`), and find faults (`doctor`)."""

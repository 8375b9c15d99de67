"""The read-only web page: how the bindings are, what rolls, what is held and why. It shows what statuses show."""

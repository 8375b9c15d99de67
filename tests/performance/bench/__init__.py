"""What the controller costs, as ratios to a bare client that makes only the calls nobody could do without."""

"""What plugin authors run against their components."""

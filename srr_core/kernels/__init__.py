"""The ways a packed weight is multiplied, and which one serves which layer."""

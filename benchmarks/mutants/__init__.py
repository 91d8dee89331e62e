"""How much of a module its tests hold: small faults are put in one at a time, and a test should notice each."""

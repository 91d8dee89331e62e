"""What is learned after a weight was decomposed: the rounding of a block, and L·R beside it."""

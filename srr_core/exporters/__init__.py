"""How results are written: the native checkpoint, its adapter, its verification, and the exports from it."""

"""Real faults on a real installation: what is killed, frozen, cut and flooded while jobs run, and what must hold after.

`python -m tests.chaos --seed 1 --faults 100 --jobs 20` runs it; the same seed makes the same plan. Nothing here reaches
into the product: it is started as processes, asked over REST, and looked at from the outside.
"""

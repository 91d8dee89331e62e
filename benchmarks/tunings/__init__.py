"""Trainings from many starts, one cell at a time: how each is run, kept and read."""

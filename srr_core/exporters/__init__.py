"""Conversions of an artifact into the formats of other runtimes."""

"""The last look at an artifact: read back, compared bit for bit, and reloaded with stock tools."""

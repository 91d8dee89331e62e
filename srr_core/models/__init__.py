"""What a model is: its class without weights, which of its layers are compressed, and running it block by block."""

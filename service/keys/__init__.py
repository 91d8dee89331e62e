"""API keys: who may call the service, for what, how often, and until when."""

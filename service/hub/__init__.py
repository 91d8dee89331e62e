"""What a hub says about models: read-only, torch-free, shared by the service's preflight and the worker."""

"""The census: which classes of transformers are compressed, and which are refused and why."""

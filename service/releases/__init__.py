"""Automated compression: watches, the webhooks that report releases, and the poller that misses none."""

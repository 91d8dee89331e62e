"""Automated compression: watches, the webhooks that tell of releases, and the poller that misses none."""

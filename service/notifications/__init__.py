"""Notifications about jobs: signed webhooks, Slack messages and mails, tried again for days."""

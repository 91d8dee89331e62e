"""Telling others what became of a job: signed webhooks, Slack messages and mails, tried again for days."""

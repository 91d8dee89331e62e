"""The tables endpoints and deliveries are kept in."""

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, true

from service.platform.columns import Sentence, UtcDateTime, metadata

endpoints = Table(
    "notification_endpoints",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("owner", String(128), nullable=False, index=True),
    Column("rules", JSON, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=true()),
    Column("secrets", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("failing_since", UtcDateTime),
    Column("disabled_reason", Sentence(400)),
)

deliveries = Table(
    "notification_deliveries",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("endpoint_id", String(40), ForeignKey("notification_endpoints.id", ondelete="CASCADE"), nullable=False),
    Column("type", String(40), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Index(None, "state", "due_at"),
    Index(None, "endpoint_id", "id"),
)

attempts = Table(
    "notification_attempts",
    metadata,
    Column("delivery_id", String(40), ForeignKey("notification_deliveries.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("status", Integer),
    Column("error", Sentence(400)),
    Column("seconds", Float, nullable=False),
)

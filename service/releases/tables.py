"""The tables watches and releases are kept in."""

from sqlalchemy import JSON, Column, ForeignKey, Index, Integer, LargeBinary, String, Table, UniqueConstraint

from service.platform.columns import Sentence, UtcDateTime, metadata

watches = Table(
    "watches",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("owner", String(128), nullable=False, index=True),
    Column("rules", JSON, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("polled_at", UtcDateTime),
    Column("swept_at", UtcDateTime),
    Column("next_poll_at", UtcDateTime),
    Column("poll_failures", Integer, nullable=False, server_default="0"),
    Column("poll_error", Sentence(400)),
    Column("sweep_began_at", UtcDateTime),
    Column("swept_to", String(128)),
)

releases = Table(
    "releases",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("watch_id", String(40), ForeignKey("watches.id", ondelete="CASCADE"), nullable=False),
    Column("repo_id", String(128), nullable=False),
    Column("ref", String(255), nullable=False),
    Column("sha", String(40), nullable=False),
    Column("seen_by", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Sentence(400)),
    Column("job_ids", JSON, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("decided_at", UtcDateTime),
    UniqueConstraint("watch_id", "repo_id", "ref", "sha"),
    Index(None, "state", "due_at"),
    Index(None, "watch_id", "decided_at"),
)

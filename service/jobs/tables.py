"""The tables jobs are kept in. `migrations/` makes them; a test holds the two together."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    false,
    text,
)

from service.platform.columns import Sentence, UtcDateTime, metadata

_ID = String(40)
_BIG_ID = BigInteger().with_variant(Integer, "sqlite")
"""SQLite gives out row numbers for INTEGER PRIMARY KEY only."""

_SAME_WORK = text("content_key IS NOT NULL AND state IN ('queued', 'running', 'publishing', 'succeeded')")
"""The database itself keeps two requests for the same work from becoming two jobs."""

jobs = Table(
    "jobs",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("owner", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("stage", String(32)),
    Column("progress", Float, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("model_id", String(128), nullable=False),
    Column("destination_repo_id", String(128), nullable=False),
    Column("recipe_name", String(64), nullable=False),
    Column("kind", String(32), nullable=False, server_default="compress"),
    Column("work", JSON, nullable=False, server_default="{}"),
    Column("schema_version", Integer, nullable=False, server_default="1"),
    Column("tags", JSON, nullable=False),
    Column("brought_token", Boolean, nullable=False, server_default=false()),
    Column("unchecked", JSON, nullable=False, server_default="[]"),
    Column("max_running", Integer),
    Column("result", JSON(none_as_null=True)),
    Column("failure", JSON(none_as_null=True)),
    Column("has_report", Boolean, nullable=False),
    Column("content_key", String(64)),
    Column("traceparent", String(64)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("queued_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("lease_owner", String(128)),
    Column("lease_until", UtcDateTime),
    Column("last_sequence", Integer, nullable=False),
    Index(None, "owner", "id"),
    Index(None, "owner", "state"),
    Index(None, "state", "id"),
    Index(None, "state", "finished_at"),
    Index(None, "recipe_name", "id"),
    Index(None, "kind", "id"),
    Index(None, "owner", "finished_at"),
    Index(None, "state", "queued_at"),
    Index(None, "model_id", "id"),
    Index(None, "destination_repo_id", "id"),
    Index(None, "created_at"),
    Index(
        None,
        "lease_until",
        sqlite_where=text("lease_until IS NOT NULL"),
        postgresql_where=text("lease_until IS NOT NULL"),
    ),
    Index(
        "ux_jobs_same_work",
        "owner",
        "content_key",
        unique=True,
        sqlite_where=_SAME_WORK,
        postgresql_where=_SAME_WORK,
    ),
)

job_tags = Table(
    "job_tags",
    metadata,
    Column("tag", String(64), primary_key=True),
    Column("job_id", _ID, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
)

job_events = Table(
    "job_events",
    metadata,
    Column("job_id", _ID, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("data", JSON, nullable=False),
    Column("schema_version", Integer, nullable=False, server_default="1"),
    Column("created_at", UtcDateTime, nullable=False),
)

job_reports = Table(
    "job_reports",
    metadata,
    Column("job_id", _ID, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("report", JSON, nullable=False),
)

job_credentials = Table(
    "job_credentials",
    metadata,
    Column("job_id", _ID, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
)

job_texts = Table(
    "job_texts",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("utf8", LargeBinary, nullable=False),
)
"""Bytes, because PostgreSQL's text refuses the NUL characters a user's text may hold."""

uploaded_texts = Table(
    "uploaded_texts",
    metadata,
    Column("owner", String(128), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("num_bytes", Integer, nullable=False),
    Column("uploaded_at", UtcDateTime, nullable=False, index=True),
)
"""Who may name a text by its digest, and until when; the text itself is in `job_texts`."""

job_outbox = Table(
    "job_outbox",
    metadata,
    Column("id", _BIG_ID, primary_key=True, autoincrement=True),
    Column("job_id", _ID, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("traceparent", String(64)),
    Column("available_at", UtcDateTime, nullable=False),
    Column("sent_at", UtcDateTime),
    Index(
        "ix_job_outbox_unsent",
        "available_at",
        sqlite_where=text("sent_at IS NULL"),
        postgresql_where=text("sent_at IS NULL"),
    ),
)
"""Holds rows of queued jobs only: a job that leaves the queue takes its row away."""

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("owner", String(128), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request_digest", String(64)),
    Column("job_id", _ID, nullable=False),
    Column("created_at", UtcDateTime, nullable=False, index=True),
)

job_notices = Table(
    "job_notices",
    metadata,
    Column("id", _BIG_ID, primary_key=True, autoincrement=True),
    Column("job_id", _ID, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("owner", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
"""Changes of state whose notifications are not written yet; writing them removes the rows."""

workers = Table(
    "workers",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("host", String(128), nullable=False),
    Column("device", String(128), nullable=False),
    Column("device_memory_bytes", BigInteger),
    Column("host_memory_bytes", BigInteger),
    Column("scratch_bytes", BigInteger),
    Column("operations_per_second", Float),
    Column("has_hub_token", Boolean, nullable=False, server_default=false()),
    Column("version", String(32), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False, index=True),
    Column("trouble", Sentence(400)),
)

set_apart = Table(
    "set_apart",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("reason", Sentence(200), nullable=False),
    Column("since", UtcDateTime, nullable=False),
)
"""Workers, hosts, or `*` for all, that the operator keeps from taking jobs."""

lent_namespaces = Table(
    "lent_namespaces",
    metadata,
    Column("owner", String(128), primary_key=True),
    Column("namespace", String(96), primary_key=True),
)
"""Where jobs of an owner that bring no Hub token may use the worker's."""

publications = Table(
    "publications",
    metadata,
    Column("repo_id", String(128), primary_key=True),
    Column("owner", String(128), nullable=False),
    Column("published_at", UtcDateTime, nullable=False),
)
"""Who published what through this installation, by the repository in lower case."""

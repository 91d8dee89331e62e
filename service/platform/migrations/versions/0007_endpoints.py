"""Whether an endpoint is on, apart from its rules."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_ENDPOINTS = sa.table("notification_endpoints", sa.column("id"), sa.column("rules", sa.JSON), sa.column("enabled"))


def upgrade() -> None:
    """Apply the change."""
    op.add_column(
        "notification_endpoints", sa.Column("enabled", sa.Boolean(), nullable=False, server_default=sa.true())
    )
    connection = op.get_bind()
    rows = connection.execute(sa.select(_ENDPOINTS.c.id, _ENDPOINTS.c.rules)).all()
    off = [row.id for row in rows if not row.rules.get("enabled", True)]
    connection.execute(sa.update(_ENDPOINTS).where(_ENDPOINTS.c.id.in_(off)).values(enabled=sa.false()))


def downgrade() -> None:
    """Undo the change."""
    connection = op.get_bind()
    for row in connection.execute(sa.select(_ENDPOINTS)).all():
        rules = {**row.rules, "enabled": bool(row.enabled)}
        connection.execute(sa.update(_ENDPOINTS).where(_ENDPOINTS.c.id == row.id).values(rules=rules))
    op.drop_column("notification_endpoints", "enabled")

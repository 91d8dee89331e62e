"""Golden rows in a database of another kind: they are SQLite's, and PostgreSQL must read the same."""

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, MetaData, select, text

from service.platform.database import writing


def upgrade_to(engine: Engine, revision: str) -> None:
    """Make the tables of an earlier version in an empty database."""
    config = Config()
    config.set_main_option("script_location", "service:platform/migrations")
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def copy_rows(old: Engine, new: Engine) -> None:
    """Copy every row into a PostgreSQL database with tables of the same version."""
    tables = MetaData()
    tables.reflect(new)
    with old.connect() as source, writing(new) as target:
        for table in tables.sorted_tables:
            if table.name == "alembic_version":
                continue
            rows = [dict(row._mapping) for row in source.execute(select(table))]
            if rows:
                target.execute(table.insert(), rows)
        for name, column in (("job_outbox", "id"), ("job_notices", "id")):
            target.execute(text(f"SELECT setval(pg_get_serial_sequence('{name}', '{column}'), 1000)"))

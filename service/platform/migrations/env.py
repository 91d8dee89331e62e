"""Runs migrations on the connection `service.platform.database.migrate` hands over."""

from alembic import context

from service.platform.columns import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()

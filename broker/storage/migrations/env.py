"""Run by Alembic: the revisions, on the connection that the store has already opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=False)
context.run_migrations()

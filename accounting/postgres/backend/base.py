"""Django's backend for Postgres, whose sessions have the gateway's settings and not the role's (session.py)."""

from __future__ import annotations

from django.db.backends.postgresql import base

from accounting.postgres.session import prepare


class DatabaseWrapper(base.DatabaseWrapper):
    def init_connection_state(self) -> None:
        super().init_connection_state()
        prepare(self.connection, self.settings_dict.get("SCHEMA", ""))
        if not self.get_autocommit():
            self.connection.commit()

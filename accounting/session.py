"""A session with Postgres that belongs to one thread of the gateway for as long as it works, not to a request."""

from __future__ import annotations

import psycopg
from django.db import connections

from accounting.batch import Connection


def connect(application_name: str, *, statement_timeout_s: int) -> Connection:
    """A session of our own, beside Django's, that notices when Postgres vanishes. Raises psycopg.Error."""
    parameters = connections["default"].get_connection_params()
    for name in (
        "cursor_factory",
        "context",
        "client_encoding",
        "prepare_threshold",
        "server_side_binding",
    ):
        parameters.pop(name, None)
    connection = psycopg.connect(
        **{
            "connect_timeout": 3,
            "tcp_user_timeout": 5000,
            # A host that vanished while we wait for its answer sends nothing, not even an error.
            "keepalives_idle": 3,
            "keepalives_interval": 1,
            "keepalives_count": 3,
            **parameters,
            "application_name": application_name,
        },
        prepare_threshold=2,
    )
    try:
        # Whatever the database's default is.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        # A frozen Postgres must not freeze the gateway.
        connection.execute("SELECT set_config('statement_timeout', %s, false)", (f"{statement_timeout_s}s",))
        connection.execute("SET TIME ZONE 'UTC'")
        connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection

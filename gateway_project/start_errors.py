"""What stopped a start, in one line for the operator: which variable, file or package is wrong, and what to do.

It imports nothing but the standard library, because what stopped the start may be a package.
"""

from __future__ import annotations

import os
import sys
import traceback

from gateway_project.embedded_postgres import EmbeddedPostgresError
from gateway_project.environment import InvalidEnvironment
from gateway_project.files import what_is_wrong

INSTALL = "install what is locked: python -m pip install --require-hashes -r requirements.txt"
_MIGRATE = "it has not the tables of this version, which a start of the gateway makes, or `manage.py migrate`"
#: By SQLSTATE or its class. https://www.postgresql.org/docs/current/errcodes-appendix.html
_CURES = {
    "25006": "name the primary server, or lift its protection against a full disk",
    "28": "check its user and password",
    "3D": "make that database first: CREATE DATABASE",
    "3F": "make that schema first: CREATE SCHEMA",
    "42703": _MIGRATE,
    "42P01": _MIGRATE,
    "42501": "make its user the owner (ALTER DATABASE ... OWNER TO ...), or GRANT ALL ON SCHEMA public TO that user",
    "53100": "free space on the database server's disk",
    "53300": "raise its max_connections, or lower WEB_CONCURRENCY",
    "57014": "it took longer than the server allows",
}
#: Errors of ours, and one of Django's, whose text is for the operator. Their modules cannot be imported here.
_PLAIN = frozenset({"ImproperlyConfigured", "LitellmMisfit"})


def tell(error: BaseException) -> None:
    """Print the line on stderr; with GATEWAY_LOG_LEVEL=DEBUG, where it happened too."""
    if os.environ.get("GATEWAY_LOG_LEVEL", "").strip() == "DEBUG":
        traceback.print_exception(error)
    sys.stderr.write(in_one_line(error) + "\n")
    sys.stderr.flush()


def in_one_line(error: BaseException) -> str:
    match error:
        case InvalidEnvironment() | EmbeddedPostgresError():
            said = str(error)
        case _ if type(error).__name__ in _PLAIN:
            said = str(error)
        case ImportError():
            said = f"{error.name or 'A package'} cannot be imported ({error}): {INSTALL}"
        case OSError() if error.filename is not None:
            said = (
                f"{os.fsdecode(error.filename)}: {what_is_wrong(error)}, or set GATEWAY_DATA_DIR to another directory"
            )
        case _ if (blamed := _of_postgres(error)) is not None:
            said = _of_database(blamed)
        case _:
            said = f"The gateway cannot start: {type(error).__name__}: {error} (GATEWAY_LOG_LEVEL=DEBUG says where)"
    return " ".join(said.split())


def _of_postgres(error: BaseException) -> BaseException | None:
    """psycopg's error in what was raised because of it; None when the database is not to blame.

    Its class is looked at by name, because psycopg may be what is missing.
    """
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None and before not in chain:
        chain.append(before)
    with_state = (one for one in chain if isinstance(getattr(one, "sqlstate", None), str))
    of_database = (one for one in chain if type(one).__module__.startswith(("psycopg", "django.db")))
    return next(with_state, None) or next(of_database, None)


def _of_database(error: BaseException) -> str:
    name = "DATABASE_URL" if os.environ.get("DATABASE_URL", "").strip() else "The embedded Postgres"
    state = getattr(error, "sqlstate", None) or ""
    cure = _CURES.get(state) or _CURES.get(state[:2])
    # libpq never puts the password into either text.
    text = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
    return f"{name}: {text}" + (f": {cure}" if cure else "")

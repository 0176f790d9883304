#!/usr/bin/env python
"""Django's command line. Without ``DATABASE_URL`` it starts the embedded Postgres for as long as it runs."""

import os
import sys
from contextlib import ExitStack, suppress

from gateway_project import __version__

# Commands that never open a connection: they must work on a machine without any database.
WITHOUT_DATABASE = {
    "check",
    "collectstatic",
    "diffsettings",
    "findstatic",
    "help",
    "--help",
}


def main(arguments: list[str]) -> int:
    if arguments[1:] in (["version"], ["--version"]):  # Django would say its own
        print(__version__)
        return 0
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    from django.core.management import execute_from_command_line

    from gateway_project.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError, postgres_bin_dir
    from gateway_project.environment import InvalidEnvironment

    with ExitStack() as stack:
        try:
            from gateway_project import settings

            if settings.EMBEDDED_POSTGRES_DIR and arguments[1:] and arguments[1] not in WITHOUT_DATABASE:
                stack.enter_context(EmbeddedPostgres(settings.EMBEDDED_POSTGRES_DIR).shared())
        except (InvalidEnvironment, EmbeddedPostgresError) as error:
            print(error, file=sys.stderr)
            return 2
        with suppress(EmbeddedPostgresError):  # `dbshell` finds a psql even where none is installed
            os.environ["PATH"] += os.pathsep + str(postgres_bin_dir())
        execute_from_command_line(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))

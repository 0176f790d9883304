#!/usr/bin/env python
"""Django's command line. Without ``DATABASE_URL`` it starts the embedded Postgres for as long as it runs."""

import os
import signal
import sys
from contextlib import ExitStack, suppress

from gateway_project import __version__, start_errors, terminal
from gateway_project.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError, postgres_bin_dir

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
    terminal.accept_every_character()
    with ExitStack() as stack:
        try:
            from django.core.management import execute_from_command_line
            from django.db import OperationalError, ProgrammingError

            from gateway_project import settings

            if settings.EMBEDDED_POSTGRES_DIR and arguments[1:] and arguments[1] not in WITHOUT_DATABASE:
                stack.enter_context(EmbeddedPostgres(settings.EMBEDDED_POSTGRES_DIR).shared())
        except Exception as error:  # noqa: BLE001 - whatever it is, the operator gets one line
            start_errors.tell(error)
            return 2
        with suppress(EmbeddedPostgresError):  # `dbshell` finds a psql even where none is installed
            os.environ["PATH"] += os.pathsep + str(postgres_bin_dir())
        try:
            execute_from_command_line(arguments)
            sys.stdout.flush()
        except (ImportError, OperationalError, ProgrammingError) as error:  # no package, database or tables of ours
            start_errors.tell(error)
            return 2
        except EOFError:  # `changepassword` by `docker exec` without -it
            sys.stderr.write("This command asks, and here is nobody to answer: run it in a terminal (exec -it).\n")
            return 2
        except BrokenPipeError:  # `| head` has read enough; what is still buffered goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)

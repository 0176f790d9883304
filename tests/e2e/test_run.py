"""`make run` as an operator lives with it: first start, second start, ways to stop, ways to be killed."""

from __future__ import annotations

import contextlib
import http.cookiejar
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gateway_project import __version__
from gateway_project.embedded_postgres import EmbeddedPostgres
from tests.clocks import eventually
from tests.e2e.launcher import ROOT, RunningGateway, free_port


@contextlib.contextmanager
def gateway(data_dir: Path, **variables: str) -> Iterator[RunningGateway]:
    running = RunningGateway.in_tree(data_dir, **variables)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of all starts. The first test creates it."""
    return tmp_path_factory.mktemp("run") / "data"


def assert_all_gone(processes: list[psutil.Process], within_s: float) -> None:
    _, alive = psutil.wait_procs(processes, timeout=within_s)
    assert [" ".join(process.cmdline()) for process in alive] == []


def sign_in(running: RunningGateway, username: str, password: str) -> str:
    """Sign in to the admin as a browser does. Returns the path of the last page."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    page = browser.open(running.url + "/admin/login/?next=/admin/").read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token
    form = {"csrfmiddlewaretoken": token[1], "username": username, "password": password, "next": "/admin/"}
    answer = browser.open(running.url + "/admin/login/", urllib.parse.urlencode(form).encode())
    return str(urllib.parse.urlsplit(answer.url).path)


def test_the_first_start_prints_where_it_is_and_a_password_that_works(data_dir: Path) -> None:
    with gateway(data_dir) as running:
        running.wait_until_ready()
        assert f"  Gateway   {running.url}/v1\n" in running.output
        assert f"  Admin     {running.url}/admin/\n" in running.output
        assert sign_in(running, "admin", running.password) == "/admin/"
        assert sign_in(running, "admin", "not " + running.password) == "/admin/login/"
        # manage.py finds the running server, and a second gateway in the same tree is told about the first.
        counted = running.manage("shell", "-v", "0", "-c",
            "from django.contrib.auth.models import User; print(User.objects.count())")  # fmt: skip
        assert (counted.stdout, counted.returncode) == ("1\n", 0), counted.stderr
        with gateway(data_dir) as second:
            assert second.process.wait(30) == 2
            assert second.output == (
                f"The database in {data_dir}/postgres is in use by another gateway process "
                f"(pid {running.process.pid}): "
                "stop that one first, or set GATEWAY_DATA_DIR to another directory.\n"
            )
        children = running.descendants()
        assert {"postgres", "python"} <= {re.sub(r"[\d.]", "", process.name()) for process in children}
        assert running.stop(signal.SIGTERM) == 0
        assert_all_gone(children, within_s=0)


def test_the_second_start_is_quick_and_keeps_account_and_data(data_dir: Path) -> None:
    with gateway(data_dir) as running:
        assert running.wait_until_ready() < 10
        assert "password" not in running.output
        children = running.descendants()
        assert running.stop(signal.SIGINT) == 0
        assert_all_gone(children, within_s=0)


def test_children_do_not_outlive_a_killed_launcher_and_the_next_start_recovers(data_dir: Path) -> None:
    with gateway(data_dir) as running:
        running.wait_until_ready()
        children = running.descendants()
        running.process.kill()
        assert_all_gone(children, within_s=15)
    with gateway(data_dir) as running:
        running.wait_until_ready()
        for process in [psutil.Process(running.process.pid), *running.descendants()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()  # all processes at once, as when a machine loses power
        running.process.wait()
        assert (data_dir / "postgres/postmaster.pid").exists()
    with gateway(data_dir) as running:
        running.wait_until_ready()
        assert "one-time password" not in running.output


def test_a_killed_postgres_is_started_again_under_the_running_gateway(data_dir: Path) -> None:
    with gateway(data_dir) as running:
        running.wait_until_ready()
        killed = running.postmaster()
        killed.kill()
        deadline = time.monotonic() + 20
        while (
            "starting it again" not in running.output
            or not EmbeddedPostgres(data_dir / "postgres").accepts_connections()
        ):
            assert time.monotonic() < deadline, running.output
            time.sleep(0.1)
        assert running.postmaster().pid != killed.pid
        assert running.status("/admin/login/") == 200
        assert running.stop() == 0


def test_a_gunicorn_that_dies_ends_the_launcher_with_an_error(data_dir: Path) -> None:
    with gateway(data_dir) as running:
        running.wait_until_ready()
        children = running.descendants()
        master = next(process for process in children if "gunicorn" in process.cmdline())
        master.kill()
        assert running.process.wait(30) == 1
        assert "gunicorn ended by itself (exit code -9).\n" in running.output
        assert_all_gone(children, within_s=10)


def test_manage_py_starts_the_database_for_itself_when_no_gateway_runs(data_dir: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "GATEWAY_ENV_FILE": os.devnull,
        "GATEWAY_DATA_DIR": str(data_dir),
    }
    program = "from django.contrib.auth.models import User; print(User.objects.get().username)"
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", program],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("admin\n", 0), done.stderr
    assert not EmbeddedPostgres(data_dir / "postgres").accepts_connections()


@pytest.mark.parametrize("worker_class", ["gthread", "stock-gevent"])
def test_the_first_admin_may_be_given_and_the_worker_class_too(tmp_path: Path, worker_class: str) -> None:
    given = {"DJANGO_SUPERUSER_USERNAME": "ada", "DJANGO_SUPERUSER_PASSWORD": "a long enough one"}
    with gateway(tmp_path / "data", GATEWAY_WORKER_CLASS=worker_class, **given) as running:
        running.wait_until_ready()
        assert "a long enough one" not in running.output
        assert sign_in(running, "ada", "a long enough one") == "/admin/"
        assert running.stop() == 0


def test_each_start_says_what_is_odd_about_its_settings_once(data_dir: Path) -> None:
    with gateway(data_dir, SECRET_KEY="short", ALLOWED_HOSTS="*") as running:
        running.wait_until_ready()
        before, _, after = running.output.partition("  Gateway   ")
        assert re.findall(r"^Warning (\S+):", before, re.MULTILINE) == ["gateway.W003", "gateway.W004"]
        assert "Warning" not in after
        assert running.stop() == 0


def test_a_gunicorn_without_the_launcher_prints_the_system_checks_too(data_dir: Path, tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "GATEWAY_ENV_FILE": os.devnull,
        "GATEWAY_DATA_DIR": str(data_dir),
        "WEB_CONCURRENCY": "1",
        "PORT": str(free_port()),
        "SECRET_KEY": "short",
    }
    with (tmp_path / "output").open("w") as output:
        gunicorn = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--config", "gateway_project/gunicorn.conf.py"],
            cwd=ROOT, env=environment, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        assert eventually(lambda: "Warning gateway.W004" in (tmp_path / "output").read_text(), within_s=60)
    finally:
        gunicorn.kill()
        gunicorn.wait()


@pytest.mark.parametrize(
    "command", [["manage.py", "version"], ["manage.py", "--version"], ["-m", "gateway_project.run", "--version"]]
)
def test_the_version_is_told_without_a_database(command: list[str]) -> None:
    told = subprocess.run([sys.executable, *command], cwd=ROOT, env={}, capture_output=True, text=True, check=False)
    assert (told.stdout, told.returncode) == (f"{__version__}\n", 0)


def test_a_taken_port_is_said_in_one_line(data_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with gateway(data_dir, PORT=str(port)) as running:
            assert running.process.wait(30) == 2
            assert running.output == (
                f"PORT: cannot serve on 127.0.0.1:{port} (Address already in use); set another one\n"
            )
    assert not EmbeddedPostgres(data_dir / "postgres").accepts_connections()


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"GATEWAY_AUTH": "none"}, "GATEWAY_AUTH: should be required or open, not 'none'\n"),
        (
            {"DATABASE_URL": "mysql://u:hunter2@h/d"},
            "DATABASE_URL: should begin with postgresql://, as in postgresql://USER:PASSWORD@HOST:5432/DATABASE\n",
        ),
        (
            {"HOST": "0.0.0.0"},
            "ALLOWED_HOSTS: is required when HOST is 0.0.0.0: the names it is reached by, separated by commas\n",
        ),
    ],
)
def test_a_malformed_environment_stops_the_start_in_one_line(
    tmp_path: Path, variables: dict[str, str], line: str
) -> None:
    with gateway(tmp_path / "data", **variables) as running:
        assert running.process.wait(30) == 2
        assert running.output == line
    assert not (tmp_path / "data").exists()

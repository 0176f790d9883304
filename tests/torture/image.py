"""The Dockerfile's own steps in a clean Debian, every wheel installed afresh: ``make image-check``.

No registry of images is asked. In the place of the base image stands what debootstrap makes of Debian 13, which has
the base image's Python. Each stage is a copy of it, and each RUN is run in a chroot with a /proc of its own. Then the
image's command serves there, as an unprivileged user, from a database outside. It takes minutes, nearly all of them for
packages, and needs root.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psycopg
import pytest

from gateway_project.embedded_postgres import SYSTEM_USER, EmbeddedPostgres
from tests.e2e.launcher import ROOT, RunningGateway, free_port
from tests.e2e.test_image import build_context, instructions

MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
PACKAGES = "ca-certificates,python-is-python3,python3,python3-venv"
#: What of this machine a stage needs to reach the network as this machine does.
OF_THIS_MACHINE = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")

#: Mounts a /proc and a tmpfs where nobody else sees them, as a stage needs both.
_MOUNTS = (
    'place=$(mktemp -d) && mount -t tmpfs none "$place" && mkdir "$place/proc" && mount -t proc proc "$place/proc"'
)


def _may_mount() -> bool:
    return (
        subprocess.run(["unshare", "--mount", "sh", "-ec", _MOUNTS], capture_output=True, check=False).returncode == 0
    )


def _is_there(mirror: str) -> bool:
    try:
        with urllib.request.urlopen(f"{mirror}/dists/trixie/Release", timeout=20) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root"),
    pytest.mark.skipif(shutil.which("debootstrap") is None, reason="apt-get install debootstrap"),
    pytest.mark.skipif(not _may_mount(), reason="this machine lets nobody mount, as most containers do"),
    pytest.mark.skipif(not _is_there(MIRROR), reason=f"no Debian at {MIRROR}: DEBIAN_MIRROR names another"),
]


class Image:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base, self.root = folder / "base", folder / "none"
        self.variables: dict[str, str] = {}
        self.work_dir, self.start, self.health_check, self.size_mb = "/", [""], [""], 0
        called("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "trixie", str(self.base), MIRROR)
        for name in OF_THIS_MACHINE:
            if Path(name).exists():
                shutil.copy(name, f"{self.base}{name}")
        for keyword, rest in instructions():
            began = time.monotonic()
            self.take(keyword, rest)
            sys.stderr.write(f"{time.monotonic() - began:6.1f} s  {keyword} {rest[:100]}\n")

    def take(self, keyword: str, rest: str) -> None:
        match keyword:
            case "FROM":
                self.root = self.folder / ("build" if rest.endswith(" AS build") else "image")
                self.variables, self.work_dir = {}, "/"
                called("cp", "--archive", str(self.base), str(self.root))
            case "ENV":
                self.variables |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            case "WORKDIR":
                self.work_dir = rest
                Path(f"{self.root}{rest}").mkdir()
            case "COPY":
                self.copy(rest)
            case "RUN":
                called(*self.inside("sh", "-ec", rest))
            case "CMD":
                self.start = json.loads(rest)
            case "HEALTHCHECK":
                self.health_check = json.loads(rest.partition(" CMD ")[2])
            case "USER" | "EXPOSE":
                pass
            case _:
                raise AssertionError(f"the Dockerfile says {keyword}, which this check does not know")

    def copy(self, rest: str) -> None:
        if rest.startswith("--from=build "):
            _, source, target = rest.split()
            called("cp", "--archive", f"{self.folder}/build{source}", f"{self.root}{target}")
            return
        *sources, target = rest.split()
        for name in build_context():
            if name in sources or name.startswith(f"{sources[0]}/"):
                below = name if name.startswith(f"{target}/") else Path(name).name
                path = Path(f"{self.root}{self.work_dir}/{below}")
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, path)

    def inside(self, *command: str, user: str = "0", socket_dir: Path | None = None) -> list[str]:
        """The command in the stage's root, with the image's environment. Its mounts end with it."""
        # What a container engine mounts.
        mounts = 'mount -t proc proc "$0/proc" && mkdir -p "$0/dev/shm" && mount -t tmpfs -o mode=1777 shm "$0/dev/shm"'
        if socket_dir is not None:
            (self.root / "database").mkdir(exist_ok=True)
            mounts += f' && mount --bind {shlex.quote(str(socket_dir))} "$0/database"'
        change = f'cd {self.work_dir} && exec "$@"'
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        variables = {name: value.replace("$PATH", path) for name, value in {"PATH": path, **self.variables}.items()}
        given = [f"{name}={value}" for name, value in variables.items()]
        enter = f'{mounts} && exec chroot --userspec={user} "$0" "$@"'
        return [
            *("unshare", "--mount", "sh", "-ec", enter, str(self.root)),
            *("env", *given, "sh", "-ec", change, "sh", *command),
        ]


def called(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def test_the_dockerfile_makes_an_image_that_serves(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    image = Image(tmp_path)
    folders = {name: called("du", "-sm", str(image.root / name)).split()[0] for name in ("venv", "app")}
    sys.stderr.write(f"{folders['venv']} MB of packages, {folders['app']} MB of the gateway\n")
    assert int(folders["venv"]) < 300

    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS clean_image WITH (FORCE)")
        admin.execute("CREATE DATABASE clean_image")
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": "postgresql://gateway@/clean_image?host=/database&port=5432",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "ALLOWED_HOSTS": "gateway.example",
        "WEB_CONCURRENCY": "1",
    }
    image.variables |= {"PORT": str(free_port()), **{n: v for n, v in environment.items() if n != "PATH"}}
    # Postgres lets the user of its socket in alone, and the image runs as any unprivileged user.
    user = pwd.getpwnam(SYSTEM_USER)
    inside = image.inside(*image.start, user=f"{user.pw_uid}:{user.pw_gid}", socket_dir=postgres.socket_dir)
    running = RunningGateway(tmp_path, inside, tmp_path, environment | {"PORT": image.variables["PORT"]})
    try:
        running.wait_until_ready()
        assert running.status("/health") == 200
        called(*image.inside(*image.health_check))
        assert running.stop() == 0
    finally:
        running.close()

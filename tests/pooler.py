"""Debian's PgBouncer, for the tests of sessions that are not ours alone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway_project.embedded_postgres import DATABASE, USER, EmbeddedPostgres


class PgBouncer:
    """Debian's PgBouncer in front of a server. Root may not run it, so another user does."""

    def __init__(self, folder: Path, postgres: EmbeddedPostgres, mode: str) -> None:
        found = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        if found is None:
            pytest.fail("There is no pooler for these tests: apt-get install pgbouncer", pytrace=False)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        users = folder / "users.txt"
        users.write_text(f'"{USER}" ""\n')
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n* = host={postgres.socket_dir} port=5432\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {users}\n"
            f"pool_mode = {mode}\nignore_startup_parameters = extra_float_digits\n"
        )
        as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            owner = postgres.socket_dir.stat()  # the only one who may enter the socket's directory
            as_user = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
            for directory in (folder, *folder.parents):
                if directory.stat().st_mode & 0o001 == 0:
                    directory.chmod(directory.stat().st_mode | 0o011)
        self.process = subprocess.Popen(
            [found, "--quiet", configuration], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, **as_user,
        )  # fmt: skip

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def accepts(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()

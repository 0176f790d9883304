"""The embedded server alone: where it listens, which process owns it, and what it recovers from."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import psycopg
import pytest

from gateway_project.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresBusy, EmbeddedPostgresError


def value_of(server: EmbeddedPostgres, statement: str) -> object:
    with psycopg.connect(server.dsn()) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedded") / "postgres"


def test_it_commits_durably_and_listens_on_a_private_socket_only(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    with server.shared():
        assert value_of(server, "SHOW fsync") == "on"
        assert value_of(server, "SHOW synchronous_commit") == "on"
        assert value_of(server, "SHOW listen_addresses") == ""
        assert value_of(server, "SHOW server_encoding") == "UTF8"
        assert str(value_of(server, "SHOW server_version")).startswith("18.")
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (n integer)")
            connection.execute("INSERT INTO kept VALUES (42)")
    assert not server.accepts_connections()
    with server.shared():
        assert value_of(server, "SELECT n FROM kept") == 42


def test_a_second_owner_is_refused_while_a_guest_shares_it(data_dir: Path) -> None:
    owner, other = EmbeddedPostgres(data_dir), EmbeddedPostgres(data_dir)
    owner.start()
    try:
        with pytest.raises(EmbeddedPostgresBusy, match=rf"in use by another gateway process \(pid {os.getpid()}\)"):
            other.start()
        with other.shared():
            assert value_of(other, "SELECT 1") == 1
        assert owner.accepts_connections()
    finally:
        owner.stop()


def test_a_pid_file_whose_number_belongs_to_somebody_else_by_now_is_stale(data_dir: Path) -> None:
    (data_dir / "postmaster.pid").write_text(f"{os.getpid()}\n{data_dir}\n1700000000\n5432\n{data_dir}\n\n0 0\nready\n")
    (data_dir / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
    server = EmbeddedPostgres(data_dir)
    with server.shared():
        assert value_of(server, "SELECT n FROM kept") == 42


def test_a_first_start_that_was_killed_half_way_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "postgres.new").mkdir()
    (tmp_path / "postgres.new" / "PG_VERSION").write_text("18\n")
    (tmp_path / "postgres").mkdir()
    server = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    with server.shared():
        assert value_of(server, "SELECT 1") == 1
    assert not (tmp_path / "postgres.new").exists()


def test_no_secret_of_the_gateway_is_in_the_servers_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-provider-openai-5e3a1c77")
    server = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    with server.shared():
        pid = int((server.data_dir / "postmaster.pid").read_text().split()[0])
        assert b"sk-provider" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert b"PATH=" in Path(f"/proc/{pid}/environ").read_bytes()


def test_its_log_is_for_its_owner_alone(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    server.log_path.write_text("of an older gateway\n")
    server.log_path.chmod(0o644)
    with server.shared():
        assert stat.S_IMODE(server.log_path.stat().st_mode) == 0o600
    assert server.log_path.read_text().startswith("of an older gateway\n")
    assert "ready to accept connections" in server.log_path.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server is another user's")
def test_a_folder_that_is_closed_to_others_stays_closed_to_them(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o750)
    (closed / ".env").write_text("OPENAI_API_KEY=sk-provider-openai-5e3a1c77")
    for folder in (closed, shared):
        server = EmbeddedPostgres(folder / "data" / "postgres", durable=False)
        for _ in range(2):
            with server.shared():
                assert value_of(server, "SELECT 1") == 1
                assert folder.stat().st_mode & 0o007 == 0
    seen = subprocess.run(
        ["cat", closed / ".env"], user="nobody", group="nogroup", extra_groups=[], capture_output=True, check=False
    )
    assert (seen.returncode, seen.stdout) == (1, b"")


def test_a_directory_too_deep_for_a_socket_works_as_well(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / ("deep" * 20) / ("deeper" * 20) / "postgres", durable=False)
    with server.shared():
        assert value_of(server, "SELECT 1") == 1
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
    assert not server.socket_dir.exists()


def test_the_data_of_another_postgres_version_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedPostgresError, match=r"\AThe database in \S+ is Postgres 16, this gateway brings 18: "):
        EmbeddedPostgres(tmp_path / "postgres").start()

"""`make demo`, as a process: rows to look at, and nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
from decimal import Decimal
from pathlib import Path

import psutil
import psycopg

from gateway_project.embedded_postgres import EmbeddedPostgres
from tests.clocks import eventually
from tests.e2e.launcher import ROOT, RunningGateway, free_port


def test_the_demo_fills_the_ledger_and_stops_with_all_its_parts(tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "GATEWAY_ENV_FILE": os.devnull,
        "GATEWAY_DATA_DIR": str(tmp_path / "data"),
        "WEB_CONCURRENCY": "1",
        "PORT": str(free_port()),
    }
    demo = RunningGateway(tmp_path / "data", [sys.executable, "-m", "tests.simulator.demo"], ROOT, environment)
    try:
        assert eventually(lambda: "The demo is running" in demo.output, 90), demo.output
        with psycopg.connect(EmbeddedPostgres(tmp_path / "data" / "postgres").dsn()) as sql:
            served = sql.execute(
                "SELECT count(*), count(*) FILTER (WHERE fallback) FROM ledger WHERE http_status = 200"
            )
            assert served.fetchone() == (27, 2)
            failed = sql.execute("SELECT error_code, cost_usd FROM ledger WHERE http_status <> 200")
            assert failed.fetchall() == [("all_models_failed", Decimal(0))]
        assert '"budget": "research agent, a cent a day"' in demo.output
        children = psutil.Process(demo.process.pid).children(recursive=True)
        demo.process.send_signal(signal.SIGTERM)
        assert demo.process.wait(30) == 0
        assert eventually(lambda: not [child for child in children if child.is_running()])
    finally:
        demo.close()

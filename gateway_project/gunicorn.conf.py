"""gunicorn's configuration, as the launcher starts it: ``gunicorn -c gateway_project/gunicorn.conf.py …``."""

# Nothing stands above this: gevent must patch before anything imports ssl, socket or threading for itself.
import os

if os.environ.get("GATEWAY_WORKER_CLASS", "").strip() != "gthread":
    from gevent import monkey

    monkey.patch_all()

import gc
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from gateway_project.environment import InvalidEnvironment

try:
    from gateway_project import settings
except InvalidEnvironment as error:
    print(error, file=sys.stderr)  # noqa: T201 - one line for the operator, not a traceback
    sys.exit(2)

# Until the workers are made: collections take a quarter of the time that the imports do, and find nothing to free.
gc.disable()

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

wsgi_app = "gateway_project.wsgi"
bind = f"[{settings.HOST}]:{settings.PORT}" if ":" in settings.HOST else f"{settings.HOST}:{settings.PORT}"
workers = settings.WEB_CONCURRENCY
worker_class = {"gevent": "gateway_project.worker.GatewayWorker", "stock-gevent": "gevent", "gthread": "gthread"}[
    settings.GATEWAY_WORKER_CLASS
]
worker_connections = 1000  # a worker's clients at a time; most of them wait for a provider
threads = 64  # gthread only: there a client costs a thread
# Loaded once, then forked: the workers share litellm's memory, and no worker pays for its import.
preload_app = True

# Streams run for minutes, so a stop waits for them; holds of what is cut here expire to `unknown`.
graceful_timeout = 120
# A heartbeat, not a request's time: a worker that is silent this long is stuck, and replaced.
timeout = 60
# Idle connections delay a stop by as much. A proxy keeps them longer than a client does, and must not see us
# close first. A connection that has not carried a request yet is given less (worker.py).
keepalive = 5 if settings.ON_LOOPBACK else 75
# The heartbeat must never wait for a disk.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108

# What a header may weigh, and worker.py bounds all of them together. Bodies: GATEWAY_MAX_BODY_BYTES.
limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190
# Headers that would set WSGI's own SCRIPT_NAME and PATH_INFO: no proxy of ours moves the gateway below a path.
forwarder_headers = ""

accesslog = None  # the gateway logs a line per request of its own
errorlog = "-"
loglevel = "warning"
# gunicorn's own control socket has no user here, and would be one more door.
control_socket_disable = True


def on_starting(server: "Arbiter") -> None:
    """In the parent, once the gateway is loaded: what the system checks find, unless the launcher has printed it."""
    from gateway_project import checks
    from gateway_project.run import LAUNCHER

    if os.environ.get(LAUNCHER) != str(os.getppid()) and not checks.passed():
        sys.exit(2)


def when_ready(server: "Arbiter") -> None:
    """In the parent, before it forks: what it has loaded stays for good. Collections that look at it cost a worker
    time, and the looking writes to it, so that its pages would not be shared any more."""
    gc.collect()
    gc.freeze()
    gc.enable()


def post_fork(server: "Arbiter", worker: "Worker") -> None:
    """In each new worker, before it serves: what may not be shared across a fork starts here."""
    from accounting import ledger
    from routing.breakers import sharing as breaker_sharing

    gc.set_threshold(20_000, 20, 20)  # collections at the usual 700 take 8 % of a worker's time, at these 4 %
    gc.enable()  # a reload (SIGHUP) has read this file again, and calls no `when_ready`
    ledger.start()
    breaker_sharing.start()
    if worker.age == 1:  # the first of them, and not the one that replaces it
        from accounting.ledger.reconcile import reconcile_and_log

        threading.Thread(target=reconcile_and_log, name="reconcile", daemon=True).start()


def worker_exit(server: "Arbiter", worker: "Worker") -> None:
    """In each worker, after its last request: what still waits to be written is written here."""
    from accounting import ledger
    from routing.breakers import sharing as breaker_sharing

    breaker_sharing.stop()
    ledger.stop()

"""gunicorn's configuration, as the launcher starts it: ``gunicorn -c gateway_project/gunicorn.conf.py …``."""

# Keep this at the top: gevent must patch before any module imports ssl, socket or threading.
import os

if os.environ.get("GATEWAY_WORKER_CLASS", "").strip() != "gthread":
    try:
        from gevent import monkey
    except Exception as error:  # noqa: BLE001 - the same as below, which may not be imported yet
        from gateway_project import launched, start_errors

        launched.wait_until_prepared()
        start_errors.tell(error)
        raise SystemExit(2) from None
    monkey.patch_all()
    # Where litellm runs an event loop of asyncio's in one greenlet, the loop seems to run in all, because asyncio knows
    # only threads, and Django would refuse them the database. Its connections are each greenlet's.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"

import functools
import gc
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from gateway_project import launched, start_errors, terminal

terminal.accept_every_character()
try:
    from gateway_project import settings
except Exception as error:  # noqa: BLE001 - whatever it is, the operator gets one line
    launched.wait_until_prepared()
    start_errors.tell(error)
    sys.exit(2)

# A client has a socket, and so has the call of its provider. Systems begin with fewer open files than they allow.
_open_files, _most_open_files = resource.getrlimit(resource.RLIMIT_NOFILE)
_needed_files = 2 * settings.WORKER_CONNECTIONS + 1000
if _most_open_files != resource.RLIM_INFINITY:
    _needed_files = min(_needed_files, _most_open_files)
if resource.RLIM_INFINITY != _open_files < _needed_files:
    resource.setrlimit(resource.RLIMIT_NOFILE, (_needed_files, _most_open_files))

# Garbage collection is off until the workers are forked: it would take a quarter of the imports' time and free nothing.
gc.disable()

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

wsgi_app = "gateway_project.wsgi"
bind = f"[{settings.HOST}]:{settings.PORT}" if ":" in settings.HOST else f"{settings.HOST}:{settings.PORT}"
workers = settings.WEB_CONCURRENCY
worker_class = {"gevent": "gateway_project.worker.GatewayWorker", "stock-gevent": "gevent", "gthread": "gthread"}[
    settings.GATEWAY_WORKER_CLASS
]
worker_connections = settings.WORKER_CONNECTIONS  # a worker's clients at a time; most of them wait for a provider
threads = settings.WORKER_THREADS
# The application is loaded before the fork: the workers share litellm's memory and do not import it again.
preload_app = True

# Streams run for minutes, so a stop waits for them. The holds of requests that are cut off here expire to `unknown`.
graceful_timeout = 120
# A heartbeat, not a request's time: a worker that is silent for this long is stuck, and gunicorn replaces it.
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

accesslog = None  # the gateway writes its own line for each request
errorlog = "-"
loglevel = "warning"
# Nothing here uses gunicorn's control socket, and it would be one more way in.
control_socket_disable = True


def on_starting(server: "Arbiter") -> None:
    """Runs in the parent after the gateway is loaded. Waits for the launcher, or runs the system checks without one."""
    from gateway_project import checks

    if not launched.wait_until_prepared() and not checks.passed():
        sys.exit(2)


def when_ready(server: "Arbiter") -> None:
    """Runs in the parent before it forks. Excludes all loaded objects from garbage collection.

    They live as long as the process. A collection that visited them would take time in each worker, and would write to
    their pages, which the workers could then no longer share.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
    # Between the fork and the moment when a worker sets its own handlers it has gunicorn's, which would note a signal
    # for the parent's loop: the worker would never stop. So signals wait across the fork, and then end the worker,
    # which serves nobody yet.
    os.register_at_fork(
        before=functools.partial(signal.pthread_sigmask, signal.SIG_BLOCK, STOPS),
        after_in_parent=functools.partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, STOPS),
        after_in_child=_end_at_once,
    )


def _end_at_once() -> None:
    for number in STOPS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def post_fork(server: "Arbiter", worker: "Worker") -> None:
    """Runs in each new worker before it serves. Starts what must not be shared across a fork."""
    from accounting import ledger, refused_requests
    from accounting.ledger import rollup
    from routing.breakers import sharing as breaker_sharing

    gc.set_threshold(20_000, 20, 20)  # 4 % of a worker's time; Python's default of 700 takes 8 %
    gc.enable()  # after a reload (SIGHUP), which runs this file again but not `when_ready`
    ledger.start()
    refused_requests.start()
    rollup.start()
    breaker_sharing.start()
    if worker.age == 1:  # the first worker since the start, not a replacement
        from accounting.ledger.proof import prove_at_start

        threading.Thread(target=prove_at_start, name="reconcile", daemon=True).start()


def worker_exit(server: "Arbiter", worker: "Worker") -> None:
    """Runs in each worker after its last request. Writes what still waits to be written."""
    from accounting import ledger, refused_requests
    from accounting.ledger import rollup
    from routing.breakers import sharing as breaker_sharing

    rollup.stop()
    refused_requests.stop()
    breaker_sharing.stop()
    ledger.stop()

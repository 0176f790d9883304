"""The gateway's own gunicorn configuration, whose only worker is the process that gunicorn starts.

For ``python -m bench.instructions`` alone: callgrind takes orders from the process that it has started, and from none
of its children.
"""

import os
from pathlib import Path

exec(Path("gateway_project/gunicorn.conf.py").read_text())  # first of all: it patches for gevent

_when_ready = when_ready  # noqa: F821  the product's own, just executed
timeout = 0  # the worker would be replaced: it is fifty times as slow


def when_ready(server):
    _when_ready(server)
    os.fork = lambda: 0  # the master takes itself for the worker that it has forked,
    os.getppid = os.getpid  # and the worker's parent lives as long as itself

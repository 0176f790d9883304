"""gunicorn's side of the launcher: it loads the gateway while the launcher prepares the database, and then waits.

Imports nothing but the standard library, because what stops the load may be a package.
"""

from __future__ import annotations

import os
import sys
from functools import cache

#: In gunicorn's environment: the process id of its launcher, which holds the other end of its stdin.
LAUNCHER = "GATEWAY_LAUNCHER_PID"
#: What the launcher writes there.
SERVE = b"serve\n"


@cache
def wait_until_prepared() -> bool:
    """Whether a launcher has prepared the database and run the system checks. False: there is no launcher.

    Ends the process when the launcher could not: it has said why, and a second line would only confuse.
    """
    if os.environ.get(LAUNCHER) != str(os.getppid()):
        return False
    if os.read(sys.stdin.fileno(), len(SERVE)) != SERVE:
        sys.exit(2)
    return True

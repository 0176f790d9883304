"""What is wrong with a file or a directory of ours, in words for the operator."""

from __future__ import annotations

import errno
import os

_CURES = {
    errno.EACCES: "let the user that runs the gateway read and write it",
    errno.EPERM: "let the user that runs the gateway read and write it",
    errno.EROFS: "put it on a volume that may be written",
    errno.ENOSPC: "free some space on its disk",
    errno.EDQUOT: "free some space on its disk",
    errno.EFBIG: "raise the limit on files' sizes (ulimit -f)",
    errno.EEXIST: "it is a file and should be a directory: remove it",
    errno.ENOTDIR: "a file stands where a directory should: remove it",
}


def what_is_wrong(error: OSError) -> str:
    """The system's word for it, and what to do."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    cure = _CURES.get(error.errno or 0)
    return f"{reason}: {cure}" if cure else reason

"""requirements*.in → requirements*.txt: every package that is needed, with the hash of every file that pip may install.

What is locked already keeps its version, unless it is named in `upgrade`, or its pin has changed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
#: In this order: the second lock takes its versions from the first.
SOURCES: Final = ("requirements.in", "requirements-dev.in")
LOCKS: Final = ("requirements.txt", "requirements-dev.txt")

_PIN: Final = re.compile(r"^(?P<name>[\w.-]+)(?:\[[\w,-]+\])?==(?P<version>[^\s;\\]+)", re.MULTILINE)


class Unsolvable(Exception):
    """The pins cannot all be met; the message is uv's."""


def normal(name: str) -> str:
    """A package's name as locks spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """The names and versions that a source or a lock pins."""
    return {normal(pin["name"]): pin["version"] for pin in _PIN.finditer(text)}


def locked() -> Mapping[str, str]:
    """All that is locked: the second lock holds the first."""
    return pins((ROOT / LOCKS[-1]).read_text())


def compile_locks(upgrade: str | None = None) -> list[str]:
    """Writes both locks and returns those that changed. Raises Unsolvable, and then both are as they were."""
    before = {ROOT / lock: ((ROOT / lock).read_text(), (ROOT / lock).stat()) for lock in LOCKS}
    changed: list[str] = []
    try:
        for source, lock in zip(SOURCES, LOCKS, strict=True):
            options = ["--quiet", "--generate-hashes", "--output-file", lock, "--custom-compile-command", "make lock"]
            uv([*options, *(["--upgrade-package", upgrade] if upgrade else []), source])
        changed = [path.name for path, (text, _) in before.items() if path.read_text() != text]
    finally:
        for path, (text, stat) in before.items():
            if path.name not in changed:
                path.write_text(text)
                os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # so that make does not install it again
    return changed


def uv(arguments: list[str], stdin: str = "") -> str:
    """`uv pip compile` for every Python and platform that we run on."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--universal", "--python-version", "3.11", *arguments]
    done = subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unsolvable(done.stderr.partition("\nhint:")[0].strip())
    return done.stdout


def main() -> int:
    try:
        changed = compile_locks()
    except Unsolvable as error:
        print(f"Nothing was locked:\n{error}", file=sys.stderr)
        return 1
    print(f"Written: {', '.join(changed)}" if changed else "Nothing to do: the locks are what the sources say.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

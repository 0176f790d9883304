"""`make upgrade NAME=litellm [VERSION=1.110.2]`: locks another version of one package, installs it, runs the tests of
the translation, and reports. All other packages keep their versions, unless the new one needs others.
"""

from __future__ import annotations

import difflib
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from tools.lock import LOCKS, ROOT, SOURCES, Unsolvable, compile_locks, locked, normal, pins, uv

#: What depends on litellm's inside: that it fits at all, what we send and answer, and what its price map says.
SUITE: Final = (
    "tests/unit/test_litellm_fit.py",
    "tests/wire/test_equivalence.py",
    "tests/wire/test_equivalence_of_text.py",
    "tests/wire/test_translate.py",
    "tests/wire/test_sdk.py",
    "tests/unit/test_pricing.py",
    "tests/unit/test_ceiling.py",
)
_START: Final = "tests.unit.test_litellm_fit.test_the_installed_litellm_fits"
_FILES: Final = (*SOURCES, *LOCKS)
_NAMES_SHOWN: Final = 5
_REASON_LENGTH: Final = 800


class Refused(Exception):
    """The upgrade cannot be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Results:
    """What the suite said. `failures`: reason → the tests that failed by it."""

    passed: int
    failures: Mapping[str, list[str]]
    crash: str = ""  # the suite's last words, when it did not get as far as a result


def main(arguments: list[str]) -> int:
    if not arguments:
        print("Which package? make upgrade NAME=litellm, or make upgrade NAME=litellm VERSION=1.110.2", file=sys.stderr)
        return 2
    name, version = normal(arguments[0]), arguments[1] if len(arguments) > 1 else None
    before = locked()
    try:
        note = relock(name, version)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    after = locked()
    if after == before:
        print(f"{name} {before[name]} stays: there is nothing to change. {note}".strip())
        return 0
    print("\n".join([*what_moved(name, before, after), note] if note else what_moved(name, before, after)))
    print("\nInstalling ...", flush=True)
    if subprocess.run(["make", "--no-print-directory", "install"], cwd=ROOT, check=False).returncode != 0:  # noqa: S607
        print(f"\nIt cannot be installed. {way_back()}")
        return 1
    print("Running the tests of the translation ...", flush=True)
    results = run_suite()
    print("\n".join(report(results)))
    good = not results.failures and not results.crash
    print(f"\nTo keep it, run the whole suite (make test) and commit {', '.join(_FILES)}." if good else "")
    print(way_back())
    return 0 if good else 1


def relock(name: str, version: str | None) -> str:
    """Locks the package in that version, or in the newest one that the other pins permit. Returns what else the
    operator should know. Raises Refused, and then the files are as they were."""
    known = locked()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        meant = f" Did you mean {close[0]}?" if close else ""
        raise Refused(f"{name} is not among the packages that are locked in {LOCKS[-1]}.{meant}")
    source = next((ROOT / file for file in SOURCES if name in pins((ROOT / file).read_text())), None)
    text = source.read_text() if source else ""
    try:
        if source:
            source.write_text(pinned(text, name, version))
        compile_locks(upgrade=f"{name}=={version}" if version else name)
    except Unsolvable as error:
        if source:
            source.write_text(text)
        raise Refused(
            f"{name} {version or ''} cannot be locked; nothing was changed.\n{error}{first(error, name)}"
        ) from error
    chosen = locked().get(name)
    if source and chosen:
        source.write_text(pinned(text, name, chosen))
    if version and chosen != version:
        return f"What needs {name} permits {chosen}, and not {version}."
    return "" if version or chosen is None else newer_than(name, chosen)


def first(error: Unsolvable, name: str) -> str:
    """What to do about another pin that stands in the way."""
    others = {normal(other) for other in re.findall(r"you require ([\w.-]+)==", str(error))} - {name}
    return "".join(f"\nUpgrade that first: make upgrade NAME={other}" for other in sorted(others))


def pinned(text: str, name: str, version: str | None) -> str:
    """The source with the package pinned to that version, or to none. The comment behind it stays in its column."""

    def line(match: re.Match[str]) -> str:
        if normal(match["name"]) != name:
            return match[0]
        pin = match["name"] + match["extras"] + (f"=={version}" if version else "")
        return pin.ljust(len(match[0]) - 1) + " " if match["space"] else pin

    return re.sub(r"^(?P<name>[\w.-]+)(?P<extras>(?:\[[\w,-]+\])?)==\S+(?P<space> *)", line, text, flags=re.MULTILINE)


def newer_than(name: str, chosen: str) -> str:
    """A hint when there is a newer version, which the other pins do not permit."""
    newest = pins(uv(["--quiet", "--no-deps", "--no-header", "-"], stdin=name)).get(name)
    if newest in (None, chosen):
        return ""
    return (
        f"The newest is {newest}, but the other pins do not permit it; "
        f"make upgrade NAME={name} VERSION={newest} says which of them."
    )


def what_moved(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    lines = [f"{name} {before[name]} → {after.get(name, 'not needed any more')}", ""]
    others = [other for other in sorted({*before, *after} - {name}) if before.get(other) != after.get(other)]
    if not others:
        return [*lines, "Nothing else moved."]
    moved = (f"  {other} {before.get(other, '(new)')} → {after.get(other, '(gone)')}" for other in others)
    return [*lines, "What else moved:", *moved]


def run_suite() -> Results:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "results.xml"
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", f"--junitxml={path}", *SUITE]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1) or not path.exists():  # 1: tests failed; above it: pytest itself did
            return Results(0, {}, (done.stdout + done.stderr).strip()[-2000:] or "pytest ended without a word")
        return read_results(path.read_text())


def read_results(junit: str) -> Results:
    """pytest's report in JUnit's format, with the failures put together by their reason."""
    passed, failures = 0, defaultdict(list)
    for case in ET.fromstring(junit).iter("testcase"):  # noqa: S314 - pytest of our own wrote it
        wrong = case.find("failure")
        wrong = case.find("error") if wrong is None else wrong
        if wrong is not None:
            failures[first_reason(wrong)].append(f"{case.get('classname', '')}.{case.get('name')}".lstrip("."))
        elif case.find("skipped") is None:
            passed += 1
    return Results(passed, failures)


def first_reason(wrong: ET.Element) -> str:
    """What was raised, in one line. An error of the collection says it on the last line of its traceback."""
    message = (wrong.get("message") or "").strip()
    if message in ("", "collection failure"):
        raised = [line[1:] for line in (wrong.text or "").splitlines() if line.startswith("E ")]
        message = raised[-1] if raised else message
    return " ".join(message.split())[:_REASON_LENGTH] or "no reason given"


def report(results: Results) -> list[str]:
    if results.crash:
        return ["", "The tests did not run:", results.crash]
    failed = sum(map(len, results.failures.values()))
    lines = ["", f"The tests of the translation: {results.passed} passed, {failed} failed."]
    # First what the gateway's start would say, then what fails most tests.
    for reason, names in sorted(results.failures.items(), key=lambda item: (_START not in item[1], -len(item[1]))):
        count = "1 test" if len(names) == 1 else f"{len(names)} tests"
        lines += ["", f"{count}: {reason}", *(f"    {name}" for name in names[:_NAMES_SHOWN])]
        if len(names) > _NAMES_SHOWN:
            lines.append(f"    and {len(names) - _NAMES_SHOWN} more")
    if failed:
        lines += ["", f"Again, in full: .venv/bin/python -m pytest {' '.join(SUITE)}"]
    return lines


def way_back() -> str:
    return f"To go back: git checkout {' '.join(_FILES)} && make install"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The locks match their sources, and `make upgrade` edits them as a person would."""

from __future__ import annotations

import re

import pytest

from tools.lock import LOCKS, ROOT, SOURCES, pins
from tools.upgrade import SUITE, pinned, read_results, what_moved

TEXTS = {file: (ROOT / file).read_text() for file in (*SOURCES, *LOCKS)}


@pytest.mark.parametrize(("source", "lock"), list(zip(SOURCES, LOCKS, strict=True)))
def test_every_pin_is_locked_in_its_version(source: str, lock: str) -> None:
    wanted = pins(TEXTS[source])
    assert len(wanted) >= 10
    assert wanted.items() <= pins(TEXTS[lock]).items(), f"{source} has changed: make lock"


def test_what_the_tests_run_is_what_the_gateway_runs() -> None:
    run, test = (pins(TEXTS[lock]) for lock in LOCKS)
    assert run.items() <= test.items()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_hashes_and_the_lock_names_no_registry(lock: str) -> None:
    packages = re.split(r"^(?=\S+==)", TEXTS[lock], flags=re.MULTILINE)[1:]
    assert len(packages) == len(pins(TEXTS[lock]))
    assert [package.split()[0] for package in packages if "--hash=sha256:" not in package] == []
    assert "://" not in TEXTS[lock]
    assert "--index" not in TEXTS[lock]


def test_an_upgrade_changes_one_pin_and_leaves_its_comment_in_its_column() -> None:
    source = "Django==5.2.19    # the web\npsycopg[binary]==3.3.9  # the driver\nmypy==2.4.1\n"
    assert pinned(source, "django", "5.2.1234") == source.replace("5.2.19    #", "5.2.1234  #")
    assert pinned(source, "psycopg", None) == source.replace("[binary]==3.3.9  #", "[binary]         #")
    assert pinned(source, "mypy", "3.0") == source.replace("mypy==2.4.1", "mypy==3.0")


def test_the_report_says_what_else_moved() -> None:
    before = {"litellm": "1.0", "openai": "2.0", "boto3": "1.1", "gone": "0.1"}
    assert what_moved("litellm", before, {"litellm": "1.1", "openai": "2.1", "boto3": "1.1", "new": "0.2"}) == [
        "litellm 1.0 → 1.1",
        "",
        "What else moved:",
        "  gone 0.1 → (gone)",
        "  new (new) → 0.2",
        "  openai 2.0 → 2.1",
    ]


def test_the_report_puts_the_tests_together_that_fail_for_one_reason() -> None:
    results = read_results(
        '<testsuites><testsuite><testcase classname="a" name="well"/>'
        '<testcase classname="a" name="left out"><skipped/></testcase>'
        '<testcase classname="a" name="one"><failure message="TypeError: f() misses&#10; model">…</failure></testcase>'
        '<testcase classname="a" name="two"><failure message="TypeError: f() misses model">…</failure></testcase>'
        '<testcase classname="" name="b"><error message="collection failure">import b\n'
        "E   ImportError: no litellm</error></testcase></testsuite></testsuites>"
    )
    assert results.passed == 1
    assert results.failures == {"TypeError: f() misses model": ["a.one", "a.two"], "ImportError: no litellm": ["b"]}


def test_the_suite_of_an_upgrade_is_there() -> None:
    assert [file for file in SUITE if not (ROOT / file).is_file()] == []

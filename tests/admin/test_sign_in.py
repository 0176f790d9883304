"""The admin's door: guessing is counted before a password is hashed, is on record, and locks nobody out for good."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import hashers
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F
from django.http import HttpRequest
from django.test import Client

from routing.admin import passwords
from routing.admin.passwords import Hasher
from routing.models import SignInTries
from routing.sign_ins import tries

RIGHT = "a long enough one"
TOO_MANY = "Too many tries to sign in. Try again in 15 minutes"
HOME, ELSEWHERE = "192.0.2.7", "198.51.100.1"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash of a moment, because what is tested here is how many there are."""
    monkeypatch.setattr(Hasher, "iterations", 1)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that were hashed."""
    found: list[str] = []
    encode = Hasher.encode

    def count(self: Hasher, password: str, salt: str, iterations: int | None = None) -> str:
        found.append(password)
        return encode(self, password, salt, iterations)

    monkeypatch.setattr(Hasher, "encode", count)
    return found


@pytest.fixture
def olga(db: None) -> User:
    return User.objects.create_superuser("olga", password=RIGHT)


def try_(password: str, name: str = "olga", address: str = HOME, **headers: str) -> str:
    """The page after one try; "in" when it let him in."""
    answer: Any = Client(REMOTE_ADDR=address).post(
        "/admin/login/", {"username": name, "password": password, "next": "/admin/"}, headers=headers
    )
    return "in" if answer.status_code == 302 else answer.content.decode()


def later(by: timedelta) -> None:
    SignInTries.objects.update(since=F("since") - by, signed_in_at=F("signed_in_at") - by)


def test_after_five_wrong_passwords_no_more_are_looked_at_until_the_window_ends(olga: User, hashed: list[str]) -> None:
    hashed.clear()
    for number in range(5):
        assert "correct username and password" in try_(f"wrong {number}")
    for _ in range(3):
        assert TOO_MANY in try_(RIGHT)
    assert hashed == [f"wrong {number}" for number in range(5)]
    later(timedelta(minutes=16))
    assert try_(RIGHT) == "in"


def test_trying_on_does_not_prolong_the_window(olga: User) -> None:
    for _ in range(8):
        try_("wrong")
    later(timedelta(minutes=14))
    assert "Try again in 1 minute," in try_(RIGHT)
    later(timedelta(minutes=2))
    assert try_(RIGHT) == "in"


def test_a_right_password_forgets_the_wrong_ones_before_it(olga: User) -> None:
    for _ in range(3):
        for _ in range(4):
            try_("wrong")
        assert try_(RIGHT) == "in"


@pytest.mark.django_db(transaction=True)
def test_of_forty_tries_at_once_five_are_looked_at(olga: User, hashed: list[str]) -> None:
    hashed.clear()

    def guess(number: int) -> str:
        try:
            return try_(f"wrong {number}")
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        pages = list(pool.map(guess, range(40)))
    assert len(hashed) == 5
    assert len([page for page in pages if TOO_MANY in page]) == 35


def test_guesses_from_elsewhere_do_not_keep_an_operator_out_where_he_signed_in(olga: User) -> None:
    assert try_(RIGHT) == "in"
    for number in range(20):
        for _ in range(6):
            try_("wrong", address=f"198.51.100.{number}")
    assert TOO_MANY in try_(RIGHT, address="203.0.113.9")  # the name is being guessed, and this address is new
    assert try_(RIGHT) == "in"
    later(timedelta(days=91))
    assert try_(RIGHT, address="203.0.113.9") == "in"  # and the window ends


def test_an_address_that_tries_many_names_is_refused_and_leaves_few_rows(olga: User, hashed: list[str]) -> None:
    hashed.clear()
    for number in range(40):
        try_("wrong", name=f"made-up-{number}", address=ELSEWHERE)
    assert len(hashed) == 30
    assert SignInTries.objects.count() == 61
    assert try_(RIGHT) == "in"
    later(timedelta(days=2))
    assert try_(RIGHT) == "in"
    assert set(SignInTries.objects.values_list("user_name", "address")) == {("olga", HOME)}


def test_wrong_passwords_are_on_record_without_the_password(olga: User, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.admin")
    for _ in range(8):
        try_("hunter2-by-mistake")
    try_(RIGHT, address=ELSEWHERE)
    lines = [(line.message, vars(line)["user_name"], vars(line)["address"]) for line in caplog.records]
    assert lines == [
        *[("sign-in failed", "olga", HOME)] * 5,
        ("sign-ins refused", "olga", HOME),
        ("signed in", "olga", ELSEWHERE),
    ]
    assert "hunter2" not in str([vars(line) for line in caplog.records])


@pytest.mark.parametrize(
    ("https", "proxies", "addresses"),
    [
        (False, 1, ("192.0.2.7", None, "192.0.2.7")),
        (False, 1, ("192.0.2.7", "203.0.113.9", "192.0.2.7")),  # nobody in front: the client made it up
        (True, 1, ("10.0.0.1", "203.0.113.9", "203.0.113.9")),
        (True, 1, ("10.0.0.1", "6.6.6.6, 203.0.113.9", "203.0.113.9")),  # what the client made up is before it
        (True, 2, ("10.0.0.1", "6.6.6.6, 203.0.113.9, 10.0.0.2", "203.0.113.9")),
        (True, 2, ("10.0.0.1", "203.0.113.9", "203.0.113.9")),
        (True, 1, ("10.0.0.1", None, "10.0.0.1")),
        (False, 1, ("127.0.0.1", "203.0.113.9", "203.0.113.9")),  # a proxy on this machine
        (True, 1, ("10.0.0.1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64")),
        (True, 1, ("10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9")),
        (True, 1, ("10.0.0.1", "<script>", "unknown")),
    ],
)
def test_tries_are_counted_by_the_address_that_a_trusted_proxy_wrote(
    settings: Any, https: bool, proxies: int, addresses: tuple[str, str | None, str]
) -> None:
    settings.HTTPS, settings.GATEWAY_PROXIES = https, proxies
    peer, forwarded, address = addresses
    request = HttpRequest()
    request.META = {"REMOTE_ADDR": peer} | ({"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {})
    assert tries.address_of(request) == address


def test_who_runs_the_gateway_unlocks_an_operator(olga: User) -> None:
    for _ in range(6):
        try_("wrong")
    assert TOO_MANY in try_(RIGHT)
    out = StringIO()
    call_command("unlock", "olga", stdout=out)
    assert "'olga' may try again" in out.getvalue()
    assert try_(RIGHT) == "in"


def test_only_an_operator_that_there_is_can_be_unlocked(olga: User) -> None:
    with pytest.raises(CommandError, match="There is no operator 'Olga'"):
        call_command("unlock", "Olga", "--address", HOME, stdout=StringIO())
    assert not SignInTries.objects.exists()


def test_an_unlocked_address_is_kept_open_while_others_go_on_guessing(olga: User) -> None:
    for number in range(20):
        for _ in range(6):
            try_("wrong", address=f"198.51.100.{number}")
    assert TOO_MANY in try_(RIGHT)
    call_command("unlock", "olga", "--address", HOME, stdout=StringIO())
    for number in range(20):
        for _ in range(6):
            try_("wrong", address=f"198.51.100.{number}")
    assert try_(RIGHT) == "in"
    with pytest.raises(CommandError, match="is not an IP address"):
        call_command("unlock", "olga", "--address", "home")


def test_a_password_is_hashed_in_a_thread_of_its_own_and_read_as_ever(
    olga: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    plain = hashers.PBKDF2PasswordHasher.encode

    def encode(self: Any, *arguments: Any) -> str:
        threads.append(threading.get_ident())
        return plain(self, *arguments)

    monkeypatch.setattr(hashers.PBKDF2PasswordHasher, "encode", encode)
    assert olga.check_password(RIGHT)
    assert not olga.check_password("wrong")
    assert threading.get_ident() not in threads
    assert len(set(threads)) == 1
    assert olga.password.startswith("pbkdf2_sha256$1$")


def test_while_many_passwords_wait_no_more_are_taken(
    olga: User, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed.clear()
    monkeypatch.setattr(passwords._queue, "length", passwords.MOST_WAITING)
    assert "Many sign in at this moment. Try again in a few seconds." in try_(RIGHT)
    assert hashed == []

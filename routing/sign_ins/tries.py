"""Tries to sign in to the admin, counted before a password is looked at.

What is promised: a user's name is tried at most PAIR times in a window at an address, on all replicas together, and the
window ends by itself. Who guesses at other addresses does not keep an operator out of where he signed in lately. Who
guesses at the operator's own address does, for as long as he goes on; ``manage.py unlock`` is for that.
"""

from __future__ import annotations

import ipaddress
from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.http import HttpRequest
from django.utils import timezone

from accounting import facts
from routing.models import SignInTries
from routing.sign_ins import sql

WINDOW = timedelta(minutes=15)
KNOWN_FOR = timedelta(days=90)  # for so long an address is one of the user's after he signed in there
PAIR = 5  # tries of a user's name at an address
#: Where the name has not signed in lately: tries of all names at the address, and of the name at all such addresses.
ADDRESS, NAME = 30, 50


def refused_for_s(name: str, address: str) -> int:
    """Count the try. For how long such tries are refused; 0 when this one is not."""
    limits = [(name, address, PAIR)]
    known = SignInTries.objects.filter(user_name=name, address=address).values_list("signed_in_at", flat=True).first()
    if known is None or known < timezone.now() - KNOWN_FOR:
        # The address first: when it is refused, the names that it makes up leave no rows.
        limits = [("", address, ADDRESS), (name, "", NAME), *limits]
    for counted_name, counted_address, most in limits:
        tries, left_s = _count(counted_name, counted_address)
        if tries > most:
            if tries == most + 1:  # once a window: a line for each would fill the log
                facts.sign_ins_refused(facts.SignInsRefused(counted_name, counted_address, left_s))
            return max(left_s, 1)
    return 0


def remember(name: str, address: str) -> None:
    """The user signed in at this address: forget what was wrong before; others' guesses do not count there now."""
    with connection.cursor() as cursor:
        cursor.execute(
            sql.load("remember_sign_in"),
            {"user_name": name, "address": address, "known_for_s": KNOWN_FOR.total_seconds()},
        )


def address_of(request: HttpRequest) -> str:
    """Whose address counts: the client's, as the nearest trusted proxy wrote it down; without a proxy the connection's.

    Behind a proxy (GATEWAY_HTTPS, or from this machine) each proxy appends to X-Forwarded-For whom it was called by. So
    the last entries are those of our proxies, and all before them is whatever the client wrote.
    """
    address: str = request.META.get("REMOTE_ADDR", "")
    forwarded = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",") if part.strip()]
    if forwarded and (settings.HTTPS or _is_loopback(address)):
        address = forwarded[-min(settings.GATEWAY_PROXIES, len(forwarded))]
    return counted(address)


def counted(address: str) -> str:
    """An address as tries are counted by it. IPv6 is counted by the /64, of which a client has all addresses."""
    try:
        found = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _count(name: str, address: str) -> tuple[int, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            sql.load("count_try"), {"user_name": name, "address": address, "window_s": WINDOW.total_seconds()}
        )
        tries, left_s = cursor.fetchone()
        return tries, left_s

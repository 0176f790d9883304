"""A process that spends against a budget with its own ledger writer: `python -m tests.ledger.spender HOLDS SEED`.

Its database is DATABASE_URL's. Prints as JSON how its requests ended, by outcome.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from urllib.parse import quote

import django

THREADS = 16


def environment() -> dict[str, str]:
    """The environment of a process that spends from the database of this process's Django."""
    from django.db import connection

    found = connection.settings_dict
    login = found["USER"] + (":" + quote(found["PASSWORD"], safe="") if found["PASSWORD"] else "")
    url = f"postgresql://{login}@/{found['NAME']}?host={found['HOST']}&port={found['PORT'] or 5432}"
    return {**os.environ, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "gateway_project.settings"}


def main() -> None:
    django.setup()
    from accounting.ledger.records import new_entry_id
    from accounting.ledger.writer import Writer
    from accounting.refusals import BudgetInFlight, Refusal
    from tests.ledger.conftest import Book

    holds, seed = int(sys.argv[1]), sys.argv[2]
    book = Book(Writer())
    # Read once, so that the threads need no connection of Django's.
    template = book.request("0.000000000001")
    outcomes: Counter[str] = Counter()
    in_flight: list[int] = []
    numbers = iter(range(holds))
    one_at_a_time = threading.Lock()

    def spend(thread: int) -> None:
        chance = random.Random(f"{seed} {thread}")
        while True:
            with one_at_a_time:
                number = next(numbers, None)
            if number is None:
                return
            most = Decimal(chance.randint(1_000_000_000, 30_000_000_000)).scaleb(-12)
            hold = None
            # Retry, as a client does, when only others' holds are in the way. So the number of requests that end
            # `BudgetExceeded` does not depend on how fast this machine is.
            while hold is None:
                try:
                    request = replace(template, entry_id=new_entry_id(), request_id=f"{seed}-{number}", hold_usd=most)
                    hold = book.writer.hold(request)
                except BudgetInFlight:
                    in_flight.append(number)
                    time.sleep(chance.uniform(0, 0.02))
                except Refusal as refusal:
                    outcomes[type(refusal).__name__] += 1
                    break
            if hold is None:
                continue
            time.sleep(chance.uniform(0, 0.05))
            if chance.random() < 0.1:
                book.void(hold)
                outcomes["voided"] += 1
            else:
                book.post(hold, str((most * chance.randint(1, 100) / 100).quantize(Decimal("1e-12"))))
                outcomes["posted"] += 1

    threads = [threading.Thread(target=spend, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    book.writer.stop()
    print(json.dumps({**outcomes, "tried again": len(in_flight)}))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()

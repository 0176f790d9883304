"""``make demo``: the gateway with simulated providers and sample traffic, to look at without a provider's key.

The simulator runs in this process, the gateway as a child, with a database of its own under ``.data/demo``. Ctrl-C
stops all of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from decimal import Decimal
from pathlib import Path
from types import FrameType

from tests.simulator import Simulator, Where, faults

ROOT = Path(__file__).resolve().parents[2]
START_WITHIN_S = 120
TRICKLE_S = 2.0
#: A first start's providers, and the wire format that the simulator plays for each.
PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "google": "gemini"}
ALIASES = ("claude-sonnet", "gpt-4o", "gemini-pro", "gemini-flash")
QUESTIONS = (
    "Write a tweet about AI safety",
    "What is the capital of Portugal?",
    "Summarise the plot of Moby-Dick in two sentences",
    "Translate 'good morning' into Russian",
    "Give me three names for a tabby cat",
)


class Demo:
    def __init__(self) -> None:
        self.environment = {
            **os.environ,
            "GATEWAY_DATA_DIR": os.environ.get("GATEWAY_DATA_DIR") or str(ROOT / ".data" / "demo"),
            "OPENAI_API_KEY": "sk-demo",
            "ANTHROPIC_API_KEY": "sk-ant-demo",
            "GEMINI_API_KEY": "AIza-demo",
        }
        os.environ.update(self.environment)
        self.url = f"http://127.0.0.1:{self.environment.get('PORT', '4000')}"
        self.keys: dict[str, str] = {}
        self.random = random.Random(1)  # the same demo each time

    def run(self) -> int:
        gateway = subprocess.Popen([sys.executable, "-m", "gateway_project.run", "--stop-with-parent"], cwd=ROOT)
        try:
            with Simulator() as simulator:
                if not self._wait(gateway):
                    return gateway.wait()
                self._configure(simulator)
                self._sample_traffic(simulator)
                self._say_what_to_look_at()
                while gateway.poll() is None:
                    time.sleep(TRICKLE_S)
                    self._one_of_many(simulator)
                return gateway.returncode
        except KeyboardInterrupt:
            return 0
        finally:
            if gateway.poll() is None:
                gateway.send_signal(signal.SIGTERM)
            gateway.wait()

    def _wait(self, gateway: subprocess.Popen[bytes]) -> bool:
        for _ in range(START_WITHIN_S * 4):
            if gateway.poll() is not None:
                return False
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health/live", timeout=1):
                return True
            time.sleep(0.25)
        return False

    def _configure(self, simulator: Simulator) -> None:
        """Point the providers at the simulator; make a few keys and budgets, afresh at each start."""
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
        import django

        django.setup()
        from accounting import keys
        from accounting.models import ApiKey, Budget
        from routing.models import Provider

        for name, wire in PROVIDERS.items():
            Provider.objects.filter(name=name).update(base_url=simulator.base_url(wire))
        for name in ("telegram-bot", "research-agent", "internal-tools"):
            self.keys[name] = keys.new_secret()
            ApiKey.objects.update_or_create(name=name, defaults=keys.fields_for(self.keys[name]))
        Budget.objects.update_or_create(
            name="research agent, a cent a day",
            defaults={
                "scope": "key",
                "api_key": ApiKey.objects.get(name="research-agent"),
                "limit_usd": Decimal("0.01"),
            },
        )
        Budget.objects.update_or_create(
            name="premium models, alert",
            defaults={"scope": "alias", "scope_value": "claude-sonnet", "mode": "alert", "limit_usd": Decimal("0.002")},
        )

    def _sample_traffic(self, simulator: Simulator) -> None:
        for number in range(24):
            self._ask(ALIASES[number % 4], "telegram-bot", streamed=number % 3 == 0)
        # Claude is overloaded: the chain answers, and says so.
        simulator.behave(Where(format="anthropic"), faults.overloaded(), faults.overloaded())
        self._ask("claude-sonnet", "telegram-bot")
        simulator.behave(Where(format="anthropic"), faults.reset_before_headers(), faults.reset_before_headers())
        self._ask("claude-sonnet", "internal-tools", streamed=True)
        # Every provider is down: one clear error with all attempts.
        for wire in PROVIDERS.values():
            simulator.behave(Where(format=wire), *[faults.unavailable()] * 4)
        self._ask("gpt-4o", "internal-tools")
        for wire in PROVIDERS.values():
            simulator.behave(Where(format=wire))
        simulator.reset()
        # More than the agent's budget of a cent: refused before any provider is asked.
        self._ask("claude-sonnet", "research-agent")
        self._ask("gemini-flash", "research-agent", more={"max_tokens": 200})

    def _one_of_many(self, simulator: Simulator) -> None:
        if self.random.random() < 0.1:
            simulator.behave(Where(format="openai"), faults.server_error(), faults.server_error())
        alias, key = self.random.choice(ALIASES), self.random.choice(list(self.keys))
        self._ask(alias, key, streamed=self.random.random() < 0.3, more={"max_tokens": 300})

    def _ask(self, alias: str, key: str, *, streamed: bool = False, more: dict[str, int] | None = None) -> None:
        body = {
            "model": alias,
            "messages": [{"role": "user", "content": self.random.choice(QUESTIONS)}],
            "stream": streamed,
            "user": f"user-{self.random.randrange(5)}",
            "metadata": {"team": self.random.choice(("growth", "support"))},
            **(more or {}),
        }
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.keys[key]}", "Content-Type": "application/json"},
        )
        # Refusals are part of the show.
        with (
            contextlib.suppress(urllib.error.HTTPError, OSError),
            urllib.request.urlopen(request, timeout=60) as answer,
        ):
            answer.read()

    def _say_what_to_look_at(self) -> None:
        data_dir = self.environment["GATEWAY_DATA_DIR"]
        print(  # noqa: T201 - this is a command
            f"""
  The demo is running: three simulated providers, three keys, a request every {TRICKLE_S:g} s. Look at

    {self.url}/admin/              who spent what, chains, budgets; change a chain and watch
    GATEWAY_DATA_DIR={data_dir} make psql
        SELECT created_at, key, alias, served_alias, fallback, http_status, error_code, cost_usd FROM ledger;
        SELECT * FROM spend_by_key;  SELECT * FROM budget_status WHERE is_current;
    curl {self.url}/v1/chat/completions \\
        -d '{{"model": "claude-sonnet", "messages": [{{"role": "user", "content": "Hi"}}]}}'

  Forgot the admin's password?  GATEWAY_DATA_DIR={data_dir} .venv/bin/python manage.py changepassword admin
""",
            flush=True,
        )


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, _stop)
    sys.exit(Demo().run())

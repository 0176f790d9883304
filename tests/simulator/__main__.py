"""`python -m tests.simulator`: the simulator as a process of its own, scripted over HTTP.

`POST /_sim/behave` takes `{"where": "openai", "behaviours": [{"fault": "rate_limited"}], "forever":
{"text": "hi"}}`; `GET /_sim/log` shows what was received, `POST /_sim/reset` forgets all.
"""

from __future__ import annotations

import argparse
import signal
import threading

from tests.simulator.behaviour import Behaviour
from tests.simulator.server import Simulator


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description="Plays the LLM providers.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4010)
    parser.add_argument("--first-token", type=float, default=0.0, metavar="S", help="seconds before content")
    parser.add_argument("--token", type=float, default=0.0, metavar="S", help="seconds between content tokens")
    options = parser.parse_args()

    simulator = Simulator(
        options.host, options.port, Behaviour(first_token_s=options.first_token, token_s=options.token)
    )
    asked_to_stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_stop.set())
    with simulator:
        for name in ("openai", "anthropic", "gemini"):
            print(f"{name:10} {simulator.base_url(name)}", flush=True)  # noqa: T201 - a command line prints
        asked_to_stop.wait()


if __name__ == "__main__":
    main()

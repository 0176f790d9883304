"""Nothing that counts or translates a request touches the network: it would be at the choice of the request's sender.

It runs in a process of its own, whose proxies are a canary, and in which every look-up and every connection is noted.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")

COUNTED = """
from routing.upstreams.estimate import estimated_usage
for model in ("command-r", "command-r-plus", "meta-llama/Llama-3-70b", "llama-2-7b", "replicate/x", "claude-3-haiku",
              "claude-sonnet-4-6", "deepseek-chat", "gpt-4o", "gpt-5", "o1", "gpt-3.5-turbo", "gemini-2.5-pro"):
    for messages in ([{"role": "user", "content": "Hello"}], [{"role": "user", "content": parts}],
                     [{"role": "tool", "tool_call_id": "x", "content": parts}]):
        estimated_usage({"messages": messages, "tools": tools}, "said", model)
"""
TRANSLATED = """
from routing.upstreams.formats import FORMATS
from routing.upstreams.frames import prepare
from tests.wire.upstream_calls import call
calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "c", "content": "done"},
            {"role": "user", "content": [{"type": "text", "text": "and?"}, inline]}]
for wire in ("anthropic", "gemini"):
    for streamed in (True, False):
        body = {"messages": messages, "tools": tools, "max_tokens": 5}
        prepare(FORMATS[wire], call("https://provider.example", body, provider=wire), streamed=streamed)
anthropic_fetches = {"messages": [{"role": "user", "content": [parts[1]]}], "max_tokens": 5}
prepare(FORMATS["anthropic"], call("https://provider.example", anthropic_fetches, provider="anthropic"), streamed=True)
"""
REFUSED = """
from routing.upstreams.base import UpstreamError
from routing.upstreams.registry import upstream_for
from tests.wire.upstream_calls import call
os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_REGION_NAME": "us-east-1"}
private = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/picture.png"}}
for provider, model in (("bedrock", "anthropic.claude-3-haiku-20240307-v1:0"), ("vertex_ai", "gemini-2.5-pro")):
    try:
        upstream_for(provider).whole(call("http://127.0.0.1:9", {"messages": [{"role": "user", "content": [private]}]},
                                          provider=provider, model=model))
    except UpstreamError as error:
        assert "not a public one" in str(error), error
    else:
        raise AssertionError("it was not refused")
touched[:] = [touch for touch in touched if touch != ("socket.getaddrinfo", "169.254.169.254")]  # is no name
"""
SCRIPT = """
import os, sys
import django
django.setup()
from routing.upstreams.registry import warm
warm()
touched = []
def note(event, args):
    if event in ("socket.connect", "socket.sendto", "socket.gethostbyname", "socket.getaddrinfo"):
        touched.append((event, str(args[0] if event.startswith("socket.get") else args[1])))
sys.addaudithook(note)
url = "https://pictures.example/cat.png"
inline = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
parts = [{"type": "text", "text": "What is that?"}, {"type": "image_url", "image_url": {"url": url, "detail": "high"}},
         {"type": "image_url", "image_url": url}, {"type": "input_image", "image_url": url},
         {"type": "tool_result", "tool_use_id": "x", "content": [{"type": "image_url", "image_url": {"url": url}}]},
         {"type": "image", "source": {"type": "url", "url": url}}]
tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
"""
END = """
assert not touched, touched
"""


def test_neither_counting_nor_translating_touches_the_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as canary:
        heard: list[bytes] = []

        def listen() -> None:
            while True:
                try:
                    connection, _ = canary.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(1000))

        threading.Thread(target=listen, daemon=True).start()
        proxy = f"http://127.0.0.1:{canary.getsockname()[1]}"
        environment = {
            **os.environ,
            **{name: proxy for upper in PROXIES for name in (upper, upper.lower())},
            "NO_PROXY": "",
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT + COUNTED + TRANSLATED + REFUSED + END],
            check=False,
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
        )
    assert done.returncode == 0, done.stderr
    assert heard == []

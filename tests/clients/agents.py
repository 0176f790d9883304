"""The coding agents as processes, each in a home of its own, and how each of them writes a step as a tool call."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.clients.session import Edit, Run, Step, Write
from tests.simulator.behaviour import ToolCall

PROMPT = "Do the work in twenty steps."
TIMEOUT_S = 240


class Agent(Protocol):
    def call_of(self, step: Step, folder: Path) -> ToolCall:
        """The step in the words of the agent's own tools."""

    def work(self, base_url: str, alias: str, folder: Path, home: Path) -> str:
        """Run the agent in the folder until it stops by itself. Returns the last thing that it said."""


@dataclass(frozen=True)
class ClaudeCode:
    program: Path

    def call_of(self, step: Step, folder: Path) -> ToolCall:
        match step:
            case Write(path, text):
                return _call("Write", file_path=str(folder / path), content=text)
            case Edit(path, old, new):
                return _call("Edit", file_path=str(folder / path), old_string=old, new_string=new)
            case Run(command):
                return _call("Bash", command=command, description="Looks at the work")

    def work(self, base_url: str, alias: str, folder: Path, home: Path) -> str:
        output = _run(
            [self.program, "-p", PROMPT, "--dangerously-skip-permissions", "--output-format", "json"],
            folder,
            HOME=str(home),
            IS_SANDBOX="1",  # it refuses to skip permissions as root, unless it is told that it is in a box
            ANTHROPIC_BASE_URL=base_url,
            ANTHROPIC_AUTH_TOKEN="dummy",
            ANTHROPIC_MODEL=alias,
            ANTHROPIC_DEFAULT_HAIKU_MODEL=alias,
            CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        )
        said = json.loads(output)
        assert not said["is_error"], said
        return str(said["result"])


@dataclass(frozen=True)
class Codex:
    program: Path

    def call_of(self, step: Step, folder: Path) -> ToolCall:
        match step:
            case Write(path, text):
                return _patch(f"*** Add File: {path}\n" + "".join(f"+{line}\n" for line in text.splitlines()))
            case Edit(path, old, new):
                removed = "".join(f"-{line}\n" for line in old.splitlines())
                added = "".join(f"+{line}\n" for line in new.splitlines())
                return _patch(f"*** Update File: {path}\n@@\n{removed}{added}")
            case Run(command):
                return _call("exec_command", cmd=command)

    def work(self, base_url: str, alias: str, folder: Path, home: Path) -> str:
        settings = home / ".codex"
        settings.mkdir()
        (settings / "config.toml").write_text(
            f'model = "{alias}"\nmodel_provider = "gateway"\n'
            f'[model_providers.gateway]\nname = "gateway"\nbase_url = "{base_url}/v1"\nenv_key = "GATEWAY_KEY"\n'
            'wire_api = "responses"\n'
        )
        output = _run(
            [
                *(self.program, "exec", "--json", "--skip-git-repo-check"),
                *("--dangerously-bypass-approvals-and-sandbox", PROMPT),
            ],
            folder,
            HOME=str(home),
            GATEWAY_KEY="dummy",
        )
        items = [event["item"] for event in map(json.loads, output.splitlines()) if event["type"] == "item.completed"]
        return str([item["text"] for item in items if item["type"] == "agent_message"][-1])


def _call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name, json.dumps(arguments))


def _patch(text: str) -> ToolCall:
    """Codex recognises this command, and applies the patch itself."""
    return _call("exec_command", cmd=f"apply_patch <<'EOF'\n*** Begin Patch\n{text}*** End Patch\nEOF\n")


def _run(command: list[str | Path], folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

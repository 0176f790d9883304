"""The names and files that docstrings, comments and documents mention exist."""

from __future__ import annotations

import ast
import importlib
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gateway_project", "routing", "accounting", "tests")
#: Files of other projects, and files that are made at run time. Our prose may name them.
FOREIGN = frozenset(
    {
        "config.yaml", "model_prices_and_context_window.json", "tcp_states.h", "litellm-config.yaml", "gthread.py",
        "postgres.log", "staticfiles.json", ".env", "more.yaml", "handler.py", "config.toml",
        "extra-openai-models.yaml",
    }
)  # fmt: skip

_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):`~?([A-Za-z_][\w.]*)`")
_DOTTED = re.compile(rf"`+((?:{'|'.join(PACKAGES)})(?:\.\w+)+)`+")
_FILE = re.compile(r"(?<![\w/.*{}<$-])((?:[\w.-]+/)*[\w-]+\.(?:py|sql|md|toml|yaml|html))(?![\w*{}/])")
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


@cache
def _tracked() -> tuple[str, ...]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return tuple(listed.stdout.split("\n"))


def _files(*endings: str) -> list[str]:
    return [name for name in _tracked() if name.endswith(endings) and (ROOT / name).exists()]


def _prose(source: str) -> Iterator[str]:
    """The docstrings and comments of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def _resolves(name: str, module: str) -> bool:
    """Whether a dotted name leads to something, from the module that mentions it or from the top."""
    home = importlib.import_module(module)
    if _attribute(home, name) or any(
        _attribute(owner, name) for owner in vars(home).values() if isinstance(owner, type)
    ):
        return True
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        return length == len(parts) or _attribute(found, ".".join(parts[length:]))
    return False


def _attribute(owner: Any, name: str) -> bool:
    for part in name.split("."):
        fields = getattr(owner, "__dataclass_fields__", {})
        if not hasattr(owner, part):
            return part in fields or part in getattr(owner, "__annotations__", {})
        owner = getattr(owner, part)
    return True


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_in_a_docstring_or_a_comment_resolves(package: str) -> None:
    lost = []
    for path in _files(".py"):
        if not path.startswith(f"{package}/") or "/migrations/" in path or path.endswith(".conf.py"):
            continue
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for text in _prose((ROOT / path).read_text(encoding="utf-8")):
            names = {*_ROLE.findall(text), *_DOTTED.findall(text)}
            lost += [f"{path}: {name}" for name in sorted(names) if not _resolves(name, module)]
    assert lost == []


def test_every_file_that_prose_names_is_there() -> None:
    known = {Path(name).name for name in _tracked()}
    lost = []
    for path in (*_files(".py", ".sql"), *_files(".md"), "Makefile", "Dockerfile", "pyproject.toml"):
        source = (ROOT / path).read_text(encoding="utf-8")
        for text in _prose(source) if path.endswith(".py") else (source,):
            for name in _FILE.findall(text):
                if Path(name).name in FOREIGN or (
                    Path(name).name in known and ("/" not in name or _is_path(name, path))
                ):
                    continue
                lost.append(f"{path}: {name}")
    assert lost == []


def _is_path(name: str, named_in: str) -> bool:
    """Whether the path, or its end, is a file of the repository, or leads to one from the file that names it."""
    return (
        any(found == name or found.endswith(f"/{name}") for found in _tracked())
        or (ROOT / named_in).parent.joinpath(name).exists()
    )


def test_every_link_of_the_documents_leads_to_a_file() -> None:
    lost = [
        f"{path}: {target}"
        for path in _files(".md")
        for target in _LINK.findall((ROOT / path).read_text(encoding="utf-8"))
        if not (ROOT / path).parent.joinpath(target).exists()
    ]
    assert lost == []

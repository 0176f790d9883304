"""docs/architecture.md is true: its rooms, its paths, each arrow of its walks, its layers and its contracts."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = ("gateway_project", "routing", "accounting")

_PATH = re.compile(rf"`((?:{'|'.join(PACKAGES)}|docs|tests)/[\w./]*)[:`]")
_CODE = r"`([\w/]+\.py):([\w.]+)`"
_WALK = re.compile(rf"{_CODE}(?:\s*→\s*{_CODE})+")

Place = tuple[str, str]  # a file, and a dotted name in it


def contracts() -> list[dict[str, object]]:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found: list[dict[str, object]] = configuration["tool"]["importlinter"]["contracts"]
    return found


def section(title: str) -> str:
    _, _, rest = PAGE.partition(f"\n## {title}\n")
    return rest.partition("\n## ")[0]


def arrows() -> Iterator[tuple[Place, Place]]:
    for walk in _WALK.finditer(PAGE):
        places: list[Place] = re.findall(_CODE, walk.group())
        yield from pairwise(places)


@cache
def module(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def definition(place: Place) -> ast.AST | None:
    """What the name means in its file: a function, a class, a method or a module's variable."""
    path, dotted = place
    found: ast.AST | None = module(path) if (ROOT / path).is_file() else None
    for part in dotted.split("."):
        if not isinstance(found, ast.Module | ast.ClassDef):
            return None
        found = next((node for node in found.body if part in defined_by(node)), None)
    return found


def defined_by(node: ast.stmt) -> set[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def names_in(node: ast.AST) -> set[str]:
    """All that the code names, the classes that Django's settings name as text included."""
    found = set()
    for part in ast.walk(node):
        match part:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                found.add(name)
            case ast.Constant(value=str(text)) if re.fullmatch(r"\w+(\.\w+)+", text):
                found.add(text.rpartition(".")[2])
    return found


def test_every_package_of_routing_and_accounting_has_its_line_among_the_rooms() -> None:
    rooms = set(_PATH.findall(section("The rooms")))
    packages = {
        f"{found.parent.relative_to(ROOT)}/"
        for package in ("routing", "accounting")
        for found in (ROOT / package).rglob("__init__.py")
    }
    assert packages - rooms - {"routing/", "accounting/"} == set()


def test_every_path_that_the_page_names_is_there() -> None:
    named = set(_PATH.findall(PAGE))
    assert len(named) > 40
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_place_of_the_walks_is_there() -> None:
    places = set(re.findall(_CODE, PAGE))
    assert [":".join(place) for place in sorted(places) if definition(place) is None] == []


def test_each_arrow_leads_from_code_to_what_it_names() -> None:
    found = list(arrows())
    assert len(found) > 40
    lost = []
    for caller, called in found:
        code = definition(caller)
        # A method is named by its own name, or by its class where a framework calls the method.
        if code is None or names_in(code).isdisjoint(called[1].split(".")):
            lost.append(f"{':'.join(caller)} does not name {':'.join(called)}")
    assert lost == []


def test_an_arrow_that_is_not_in_the_code_would_be_found() -> None:
    spend = definition(("routing/endpoints/spending.py", "spend"))
    assert spend is not None
    assert "admit" in names_in(spend)
    assert "post_stream" not in names_in(spend)
    assert definition(("routing/endpoints/spending.py", "spend_more")) is None
    assert definition(("routing/endpoints/no_such_file.py", "spend")) is None


def test_the_layers_are_those_that_import_linter_enforces() -> None:
    (rooms,) = [contract for contract in contracts() if contract.get("containers") == ["routing"]]
    _, block, _ = section("Layers").split("```")
    assert [re.split(r"\s{2,}", line)[0] for line in block.strip().splitlines()] == rooms["layers"]


def test_the_contracts_are_those_that_import_linter_enforces() -> None:
    listed = re.findall(r"^- (.+)$", section("Layers"), re.MULTILINE)
    assert listed == [contract["name"] for contract in contracts()]


def test_the_locks_are_taken_in_the_order_that_the_page_says() -> None:
    order = re.findall(r"^\d\. .*?`accounting/sql/(\w+)\.sql`", section("Locks"), re.MULTILINE)
    transaction = (ROOT / "accounting" / "ledger" / "transaction.py").read_text(encoding="utf-8")
    taken = re.findall(r'"(share_ledger|lock_\w+)"', transaction)
    assert order == list(dict.fromkeys(taken))

"""railway.toml and compose.yaml are what their readers accept, and mean what the image and the settings understand."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(found)
    return found


def railway() -> dict[str, Any]:
    return tomllib.loads((ROOT / "railway.toml").read_text(encoding="utf-8"))


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return found


def test_railway_toml_is_what_railway_accepts() -> None:
    jsonschema.validate(railway(), schema("railway"))


@pytest.mark.parametrize(
    "odd",
    [
        {"deploy": {"drainingSeconds": "130"}},
        {"deploy": {"preDeployCommand": ["one", "two"]}},
        {"deploy": {"healthcheckPaths": "/health"}},
        {"build": {"builder": "DOCKER"}},
        {"service": {}},
    ],
)
def test_what_railway_refuses_is_refused_here(odd: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(odd, schema("railway"))


def test_compose_yaml_is_what_compose_accepts() -> None:
    jsonschema.validate(compose(), schema("compose"))


def test_compose_yaml_and_the_image_agree() -> None:
    gateway = compose()["services"]["gateway"]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    settings = re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(gateway["environment"]) <= set(settings)
    assert gateway["ports"] == ["127.0.0.1:4000:4000"]
    assert "EXPOSE 4000" in dockerfile
    # As long as the gateway takes to end its streams, and a little more.
    draining_s = int(gateway["stop_grace_period"].removesuffix("s"))
    assert draining_s == railway()["deploy"]["drainingSeconds"] > 120
    # Each variable that the file asks of its reader is either required or has a default.
    asked = re.findall(r"\$\{([A-Z_]+)([^}]*)\}", (ROOT / "compose.yaml").read_text(encoding="utf-8"))
    required = {name for name, rest in asked if rest.startswith(":?")}
    assert all(rest or name in required for name, rest in asked)
    assert required == {"POSTGRES_PASSWORD", "SECRET_KEY"}

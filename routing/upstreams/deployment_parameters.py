"""A deployment's further parameters, as they are at this use: a project, a region, a cloud's credentials."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from routing.upstreams.base import FailureKind, UpstreamError

_VARIABLE: Final = "os.environ/"
_Value = str | int | float | bool


def resolved(parameters: Iterable[tuple[str, _Value]]) -> dict[str, _Value]:
    """With the values of variables in the place of their names. Raises UpstreamError when one is not set: without it
    somebody else would be asked, or at somebody else's cost."""
    found: dict[str, _Value] = {}
    for name, value in parameters:
        if not isinstance(value, str) or not value.startswith(_VARIABLE):
            found[name] = value
            continue
        variable = value.removeprefix(_VARIABLE)
        if not os.environ.get(variable):
            raise UpstreamError(FailureKind.NO_KEY, f"the provider's {name} ({variable}) is not there")
        found[name] = os.environ[variable]
    return found

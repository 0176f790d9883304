"""A deployment's further parameters, as they are at this use: a project, a region, a cloud's credentials."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from routing.upstreams.base import FailureKind, UpstreamError
from routing.upstreams.disclosure import NotAllowed, allow_variable

_VARIABLE: Final = "os.environ/"
#: litellm reads a variable, or the file that it names, for a token that begins so.
_LITELLMS: Final = ("oidc/env/", "oidc/env_path/")
_Value = str | int | float | bool
_LEAST_SECRET: Final = 16  # characters; a region is shorter, and stands in messages by right


def values_of_variables(parameters: Iterable[tuple[str, _Value]]) -> list[str]:
    """What the variables hold that the parameters name: nobody may read it in an error."""
    names = (value.removeprefix(_VARIABLE) for _, value in parameters if isinstance(value, str) and _is_name(value))
    return [value for name in names if len(value := os.environ.get(name, "")) >= _LEAST_SECRET]


def refused(value: _Value) -> str | None:
    """Why the variable that the value names may not be read, and the cure; None when it may."""
    if not isinstance(value, str) or not value.startswith((_VARIABLE, *_LITELLMS)):
        return None
    try:
        allow_variable(value.rpartition("/")[2])
    except NotAllowed as error:
        return str(error)
    return None


def _is_name(value: str) -> bool:
    return value.startswith(_VARIABLE)


def resolved(parameters: Iterable[tuple[str, _Value]]) -> dict[str, _Value]:
    """With the values of variables in the place of their names. Raises UpstreamError when one is not set: without it
    somebody else would be asked, or at somebody else's cost."""
    found: dict[str, _Value] = {}
    for name, value in parameters:
        if problem := refused(value):
            raise UpstreamError(FailureKind.NO_KEY, f"the provider's {name} may not be read: {problem}")
        if not isinstance(value, str) or not _is_name(value):
            found[name] = value
            continue
        variable = value.removeprefix(_VARIABLE)
        if not os.environ.get(variable):
            raise UpstreamError(FailureKind.NO_KEY, f"the provider's {name} ({variable}) is not there")
        found[name] = os.environ[variable]
    return found

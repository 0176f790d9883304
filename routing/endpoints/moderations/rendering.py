"""Answers in the format of OpenAI's moderations."""

from __future__ import annotations

import uuid

from accounting.usage import Usage
from routing.endpoints.moderations.request import ModerationsCall
from routing.upstreams.base import Json


def whole(call: ModerationsCall, body: Json, alias: str, estimated: Usage | None) -> Json:
    """The answer under the alias's name. This format has no count."""
    body["model"] = alias
    body.setdefault("id", f"modr-{uuid.uuid4().hex}")
    return body

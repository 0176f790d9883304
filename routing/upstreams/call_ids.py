"""The ids of tool calls, as a provider of OpenAI's format takes them."""

from __future__ import annotations

import hashlib
import re
import string
from typing import Any, Final

from routing.upstreams.providers import CallIds

#: litellm appends this and Gemini's thought signature to call ids, as many clients keep only OpenAI's fields.
_SIGNATURE_MARK: Final = "__thought__"
_ALPHANUMERIC: Final = re.compile(r"[A-Za-z0-9]+")
_LETTERS: Final = string.digits + string.ascii_letters
#: What a call has in OpenAI's format. Clients hand back more, which strict servers refuse: the `index` of a stream, or
#: notes of their own. https://github.com/microsoft/copilot-intellij-feedback/issues/1874
_CALL: Final = frozenset({"id", "type", "function", "custom"})


class Ids:
    """The ids of a request's tool calls, as the provider takes them.

    A call and its result have the same id, two calls have two ids, and the conversation's next request has the same ids
    again."""

    def __init__(self, taken: CallIds) -> None:
        self._taken = taken
        self._given: dict[str, str] = {}
        self._theirs: set[str] = set()

    def of_call(self, call: Any) -> Any:
        if not isinstance(call, dict):
            return call
        signed = self._taken.signed
        said = {name: value for name, value in call.items() if signed or name in _CALL}
        if "id" in said:
            said["id"] = self.of(said["id"])
        function = said.get("function")
        if not signed and isinstance(function, dict) and "provider_specific_fields" in function:
            said["function"] = {name: v for name, v in function.items() if name != "provider_specific_fields"}
        return said

    def of(self, id_: Any) -> Any:
        if not isinstance(id_, str):
            return id_
        if id_ not in self._given:
            theirs = id_ if self._taken.signed else id_.partition(_SIGNATURE_MARK)[0]
            if not self._is_taken(theirs) or theirs in self._theirs:
                theirs = _hashed(id_, self._taken)
            self._theirs.add(theirs)
            self._given[id_] = theirs
        return self._given[id_]

    def _is_taken(self, id_: str) -> bool:
        taken = self._taken
        if not taken.shortest <= len(id_) <= taken.longest:
            return False
        return not taken.alphanumeric or _ALPHANUMERIC.fullmatch(id_) is not None


def _hashed(id_: str, taken: CallIds) -> str:
    number = int.from_bytes(hashlib.sha256(id_.encode("utf-8", "surrogatepass")).digest())
    letters = []
    for _ in range(min(taken.longest, 24)):
        number, rest = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[rest])
    return "".join(letters)

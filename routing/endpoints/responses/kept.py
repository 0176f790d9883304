"""The ids of responses: which deployment keeps what is behind them, and whose they are.

Nothing is stored here. An id of ours has in it the alias, the deployment and the provider's own id, and a signature
that is made with the installation's secret and with the key that asked. So nobody can make one up, and another key's
request finds nothing behind it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from dataclasses import dataclass
from typing import Final

from django.utils.crypto import salted_hmac

from accounting.keys import Key
from routing.upstreams.responses_dialect import Keeper

PREFIX: Final = "resp_"
_SIGNATURE_BYTES: Final = 16
_MOST_CHARACTERS: Final = 2_000  # a longer id is none of ours
_SALT: Final = "routing.endpoints.responses.kept"


@dataclass(frozen=True, slots=True)
class Kept:
    """A response that a deployment may have kept."""

    alias: str
    keeper: Keeper
    id: str  # the provider's


def owner_of(key: Key | None) -> str:
    """Whose a response is: the key's, whatever its secret is after a rotation."""
    return "anonymous" if key is None or key.id is None else f"key {key.id}"


def sealed(kept: Kept, owner: str) -> str:
    """The id under which the owner, and nobody else, finds it again."""
    keeper = kept.keeper
    said = json.dumps([kept.alias, keeper.provider, keeper.model, keeper.key, kept.id], separators=(",", ":")).encode()
    return PREFIX + base64.urlsafe_b64encode(_signature(said, owner) + said).decode().rstrip("=")


def opened(response_id: str, owner: str) -> Kept | None:
    """What is behind an id; None when it is none of ours, or another owner's."""
    text = response_id.removeprefix(PREFIX)
    if text == response_id or len(text) > _MOST_CHARACTERS or not text.isascii():
        return None
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    signature, said = data[:_SIGNATURE_BYTES], data[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _signature(said, owner)):
        return None
    alias, provider, model, key, own_id = json.loads(said)
    return Kept(alias, Keeper(provider, model, key), own_id)


def _signature(said: bytes, owner: str) -> bytes:
    return salted_hmac(_SALT, owner.encode() + b"\0" + said, algorithm="sha256").digest()[:_SIGNATURE_BYTES]

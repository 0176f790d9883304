"""The provider's own id of a request: whatever could be a secret is no id."""

from __future__ import annotations

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from routing.upstreams.scrubbing import identifier, scrubbed

_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
KEYS = """
sk- sk-abcdef AIza0123456789 gsk_0123456789a xai-0123456789a pplx-0123456789a hf_0123456789a r8_0123456789a
fw_0123456789a tgp_0123456789a AKIA0123456789ABCDEF ASIA0123456789ABCDEF ya29.0123456789a eyJ0123456789a.b.c
key=a KEY=a https://a.b/c http://docs.openai.com/a req_0123 - . = :// Bearer our-key \u00e9
"""
PIECES = st.sampled_from([*KEYS.split(), "", " ", "\n"])


def judged(said: str, secret: str) -> str | None:
    """As `identifier`, without its look ahead."""
    return said if _ID.fullmatch(said) and scrubbed(said, secret) == said else None


@settings(max_examples=500, deadline=None)
@given(pieces=st.lists(PIECES, min_size=1, max_size=4), secret=st.sampled_from(["", "our", "our-key"]))
@example(pieces=["req_0123"], secret="")
@example(pieces=["our-key"], secret="our-key")
def test_an_id_is_what_the_scrubbed_text_leaves_as_it_is(pieces: list[str], secret: str) -> None:
    said = "".join(pieces)
    assert identifier(said, secret) == judged(said, secret)

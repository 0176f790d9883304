"""Fetches pictures that a request names by URL, for providers that need them inside the request.

The client chooses the URL, so each fetch is bounded:

- only public addresses, checked on the very address that is then connected to, so that a name cannot resolve to another
- at most three redirects, under the same rule
- a size, a time, and the first bytes of a picture

A refused picture is the client's error, and the error names the parameter.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Final
from urllib.parse import urljoin

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from routing.upstreams.base import FailureKind, UpstreamError
from routing.upstreams.http.transport import get
from routing.upstreams.inline_media import MAX_ELONGATION, measured, picture_type

MAX_MEDIA_BYTES: Final = 20 * 1024 * 1024
_MAX_REDIRECTS: Final = 3
_TIMEOUT_S: Final = 10.0
_MAX_FETCHES: Final = 10
_HEAD_BYTES: Final = 48
#: IPv4 addresses behind a translator. The last 32 bits are the real address.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
#: Global by their numbers and reached inside a network alone: the hosts' own services at Azure and Oracle, IPv4 behind
#: a translator of one's own, and IPv4 written as IPv6 in the way that was given up.
_INSIDE: Final = tuple(
    map(ipaddress.ip_network, ("168.63.129.16/32", "192.0.0.0/24", "64:ff9b:1::/48", "::/96", "fd00::/8", "fe80::/10"))
)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet."""
    ip = ipaddress.ip_address(address)
    if any(ip in network for network in _INSIDE):
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(str(embedded))
    return ip.is_global and not ip.is_multicast


def inlined(
    messages: list[Any],
    wanted: Callable[[str], bool],
    deadline: float,
    allowed: Callable[[str], bool] = is_public,
) -> list[Any]:
    """The messages with the wanted remote pictures as data URLs. Changes `messages` in place.

    `wanted` says whether the provider's translation needs this URL's bytes.
    """
    fetched: dict[str, str] = {}
    for part in _image_parts(messages):
        image = part["image_url"]
        url = image if isinstance(image, str) else image.get("url")
        if not isinstance(url, str) or not url.lower().startswith(("http://", "https://")) or not wanted(url):
            continue
        if url not in fetched:
            if len(fetched) >= _MAX_FETCHES:
                raise _refused(f"more than {_MAX_FETCHES} pictures by URL")
            fetched[url] = fetch(url, deadline, allowed)
        part["image_url"] = {**(image if isinstance(image, dict) else {}), "url": fetched[url]}
    return messages


def _image_parts(messages: list[Any]) -> Iterator[dict[str, Any]]:
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and isinstance(part.get("image_url"), str | dict):
                yield part


def fetch(url: str, deadline: float, allowed: Callable[[str], bool] = is_public) -> str:
    """The media at the URL, as a data URL. Raises UpstreamError BAD_REQUEST."""
    deadline = min(deadline, monotonic() + _TIMEOUT_S)
    for _ in range(_MAX_REDIRECTS + 1):
        try:
            parsed = parse_url(url)
        except LocationParseError:
            raise _refused("the URL is not valid") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise _refused("the URL is not one of http or https")
        address = _address(parsed, allowed)
        try:
            answer = get(parsed, address, deadline, MAX_MEDIA_BYTES)
        except UpstreamError as error:
            raise _refused(f"it could not be fetched ({error.kind})") from error
        location = answer.headers.get("location")
        if answer.status in (301, 302, 303, 307, 308) and location:
            url = urljoin(url, location)
            continue
        if answer.status != 200:
            raise _refused(f"its server answered with status {answer.status}")
        # The hold was made for a picture, whatever the server calls it.
        media_type = picture_type(answer.body[:_HEAD_BYTES])
        if media_type is None:
            raise _refused("it is not a PNG, JPEG, WebP, GIF or HEIC")
        encoded = base64.b64encode(answer.body).decode("ascii")
        if measured(media_type, encoded).amount > MAX_ELONGATION:
            raise _refused("it is longer than ten times its width")
        return f"data:{media_type};base64,{encoded}"
    raise _refused("it redirects too often")


def _address(url: Url, allowed: Callable[[str], bool]) -> str:
    host = (url.host or "").strip("[]")
    try:
        found = socket.getaddrinfo(host, url.port or 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise _refused("its host name cannot be resolved") from None
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    if not addresses or not all(map(allowed, addresses)):
        raise _refused("its address is not a public one")
    return addresses[0]


def _refused(why: str) -> UpstreamError:
    return UpstreamError(
        FailureKind.BAD_REQUEST,
        f"A picture that the request names by URL cannot be used: {why}",
        http_status=400,
        error_type="invalid_request_error",
        code="invalid_image_url",
        param="messages",
    )

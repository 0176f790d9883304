"""The only place that imports litellm. It configures litellm, and turns off what litellm must never do.

The import takes seconds and 150 MB, so it happens at the first call that needs it. The server's preload calls
:func:`routing.upstreams.registry.warm`, so that all workers share the import. `manage.py migrate` never imports it.
"""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from functools import cache
from types import ModuleType
from typing import Any


@cache
def load() -> Any:
    """litellm's module, configured. The type is `Any` because litellm's own types change every week."""
    # Without these settings litellm would download files, in the import or in the first request.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
    # litellm must not fetch media: `media` does it, bounded and from public addresses. Zero refuses all media.
    os.environ["MAX_IMAGE_URL_DOWNLOAD_SIZE_MB"] = "0"
    # It looks for secrets in each error with patterns that take seconds for a long one. scrubbing.py does it for us.
    os.environ["LITELLM_DISABLE_REDACT_SECRETS"] = "True"
    litellm: ModuleType = importlib.import_module("litellm")
    settings: Any = litellm
    settings.telemetry = False
    settings.suppress_debug_info = True
    settings.drop_params = True  # what a provider cannot do is left out (docs/translation.md)
    settings.modify_params = True  # what a provider insists on is filled in, e.g. the tools of earlier tool calls
    settings.disable_hf_tokenizer_download = True  # it would ask huggingface.co for the tokenizer of a Llama
    settings.num_retries = 0
    settings.disable_streaming_logging = True  # nobody reads these logs, and each chunk would be work for a thread
    # When a call fails, litellm's loggers write requests, and addresses that hold keys. Our UpstreamError says what
    # failed. httpx (for `sdk`) would write a line for every call.
    for name, level in (("LiteLLM", logging.CRITICAL), ("httpx", logging.WARNING)):
        logging.getLogger(name).setLevel(level)
    # pydantic writes warnings that repeat what a provider or a client said, past the log and its fields.
    warnings.filterwarnings("ignore", category=UserWarning, module="pydantic")
    _follow_no_redirects(litellm)
    _tell_no_services()
    return litellm


def _tell_no_services() -> None:
    """litellm tells monitoring services, of which there is none here, how long each call of OpenAI's client took. For
    that it runs an event loop of asyncio's in the caller's greenlet."""
    hooks = importlib.import_module("litellm._service_logger").ServiceLogging
    for name in ("service_success_hook", "service_failure_hook"):
        if not hasattr(hooks, name):
            raise AttributeError(f"litellm's ServiceLogging has no {name}")
        setattr(hooks, name, lambda *_, **__: None)


def _follow_no_redirects(litellm: Any) -> None:
    """A redirect would take a provider's key to whatever address an answer names. httpx drops the header
    `Authorization` on the way, and no other one."""
    import httpx

    handlers = importlib.import_module("litellm.llms.custom_httpx.http_handler")
    handler = handlers.HTTPHandler  # what litellm makes for most providers, told to follow

    def create_client(self: Any, create: Any = handler.create_client) -> Any:
        self.follow_redirects = False
        return create(self)

    handler.create_client = create_client
    # What litellm gives OpenAI's own client, for providers of OpenAI's format. Without a bound of connections: our
    # callers are bounded elsewhere, and would wait for one another here.
    litellm.client_session = httpx.Client(
        verify=handlers.get_ssl_configuration(),
        follow_redirects=False,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
        cookies=handlers.blocked_cookie_jar(),
    )

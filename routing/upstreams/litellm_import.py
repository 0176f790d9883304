"""The one place where litellm is imported: what it must be told first, and what it must never do.

The import takes seconds and 150 MB, so it waits for the first call that needs it; the server's preload calls
:func:`routing.upstreams.registry.warm` and all workers share it, while `manage.py migrate` never pays for it.
"""

from __future__ import annotations

import importlib
import logging
import os
from functools import cache
from types import ModuleType
from typing import Any


@cache
def load() -> Any:
    """litellm, configured. The value is the module; it is `Any` because litellm's own types change by the week."""
    # Each of these would otherwise be a download, in the import or in the first request.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
    # litellm must fetch no media on its own: `media` does it, bounded, from public addresses. Zero refuses them all.
    os.environ["MAX_IMAGE_URL_DOWNLOAD_SIZE_MB"] = "0"
    litellm: ModuleType = importlib.import_module("litellm")
    settings: Any = litellm
    settings.telemetry = False
    settings.suppress_debug_info = True
    settings.drop_params = True  # what a provider cannot do is left out (docs/translation.md)
    settings.modify_params = True  # what a provider insists on is filled in, e.g. the tools of earlier tool calls
    settings.disable_hf_tokenizer_download = True  # it would ask huggingface.co for the tokenizer of a Llama
    settings.num_retries = 0
    settings.disable_streaming_logging = True  # nobody reads it, and it is a thread's work for every chunk
    # Its loggers write requests, and addresses with keys in them, when something fails. What failed is in our
    # UpstreamError; httpx (for `sdk`) would write a line for every call.
    for name, level in (("LiteLLM", logging.CRITICAL), ("httpx", logging.WARNING)):
        logging.getLogger(name).setLevel(level)
    return litellm

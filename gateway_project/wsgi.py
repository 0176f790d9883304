"""The WSGI application that gunicorn serves."""

from __future__ import annotations

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
_django = get_wsgi_application()

from django.conf import settings  # noqa: E402  Django must be set up first

from gateway_project.routes import refuse_unknown_routes, spends  # noqa: E402
from routing.api.entry import with_short_way  # noqa: E402
from routing.upstreams.litellm_fit import LitellmMisfit  # noqa: E402
from routing.upstreams.registry import warm  # noqa: E402

application = with_short_way(_django, spends) if settings.GATEWAY_ENTRY == "short" else _django

try:
    refuse_unknown_routes()
    # litellm is imported before gunicorn forks: workers share its memory, and no first request waits for the import.
    warm()
except (ImproperlyConfigured, LitellmMisfit) as error:
    print(error, file=sys.stderr)  # noqa: T201 - one line for the operator, not a traceback
    sys.exit(2)

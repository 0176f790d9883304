"""The WSGI application that gunicorn serves."""

from __future__ import annotations

import os
import sys

from gateway_project import launched, start_errors

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
try:
    from django.core.wsgi import get_wsgi_application

    _django = get_wsgi_application()

    from django.conf import settings  # Django must be set up first

    from gateway_project.routes import refuse_unknown_routes, spends
    from routing.api.entry import with_readable_type, with_short_way
    from routing.upstreams.registry import warm

    refuse_unknown_routes()
    # litellm is imported before gunicorn forks: workers share its memory, and no first request waits for the import.
    warm()
except Exception as error:  # noqa: BLE001 - whatever it is, the operator gets one line
    launched.wait_until_prepared()
    start_errors.tell(error)
    sys.exit(2)

application = with_readable_type(with_short_way(_django, spends) if settings.GATEWAY_ENTRY == "short" else _django)

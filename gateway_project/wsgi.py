"""The WSGI application that gunicorn serves."""

import os
import sys

from gateway_project import start_errors

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
try:
    from django.core.wsgi import get_wsgi_application

    application = get_wsgi_application()

    from gateway_project.routes import refuse_unknown_routes  # Django must be set up first
    from routing.upstreams.registry import warm

    refuse_unknown_routes()
    # litellm is imported before gunicorn forks: workers share its memory, and no first request waits for the import.
    warm()
except Exception as error:  # noqa: BLE001 - whatever it is, the operator gets one line
    start_errors.tell(error)
    sys.exit(2)

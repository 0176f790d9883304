"""The WSGI application that gunicorn serves."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
application = get_wsgi_application()

from gateway_project.routes import refuse_unknown_routes  # noqa: E402  Django must be set up first
from routing.upstreams.litellm_fit import LitellmMisfit  # noqa: E402
from routing.upstreams.registry import warm  # noqa: E402

try:
    refuse_unknown_routes()
    # litellm is imported before gunicorn forks: workers share its memory, and no first request waits for the import.
    warm()
except (ImproperlyConfigured, LitellmMisfit) as error:
    print(error, file=sys.stderr)  # noqa: T201 - one line for the operator, not a traceback
    sys.exit(2)

"""All settings. Those that an operator may change come from the environment; ``.env.example`` lists them."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway_project import __version__, console, embedded_postgres
from gateway_project import logging as gateway_logging
from gateway_project.database_url import envdatabase
from gateway_project.environment import (
    InvalidEnvironment,
    envaddress,
    envbool,
    envchoice,
    envhosts,
    envint,
    envlist,
    envorigins,
    envstr,
    is_loopback,
    load_env_file,
    platform_hosts,
    subdomains_pattern,
    take_quotes_off,
)
from gateway_project.files import what_is_wrong

BASE_DIR = Path(__file__).resolve().parent.parent
take_quotes_off()
load_env_file(Path(os.environ.get("GATEWAY_ENV_FILE") or BASE_DIR / ".env"))
DATA_DIR = Path(envstr("GATEWAY_DATA_DIR", str(BASE_DIR / ".data"))).absolute()

# --- where it serves ---------------------------------------------------------------------------------
HOST = envaddress("HOST", "127.0.0.1")
PORT = envint("PORT", 4000, least=1, most=65535)
ON_LOOPBACK = is_loopback(HOST)
# Off loopback, browsers reach the admin only over https, through a proxy in front. False is for a private network
# without such a proxy.
HTTPS = envbool("GATEWAY_HTTPS", not ON_LOOPBACK)
# What the platform says of our host names is added to what the operator says. Health checks need no name (health.py).
_PUBLIC_HOSTS, _PRIVATE_HOSTS = platform_hosts()
ALLOWED_HOSTS = envhosts("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"] if ON_LOOPBACK else [])
ALLOWED_HOSTS += [host for host in (*_PUBLIC_HOSTS, *_PRIVATE_HOSTS) if host not in ALLOWED_HOSTS]
if not ALLOWED_HOSTS:
    raise InvalidEnvironment(
        "ALLOWED_HOSTS", f"is required when HOST is {HOST}: the names it is reached by, separated by commas"
    )
CSRF_TRUSTED_ORIGINS = envorigins("CSRF_TRUSTED_ORIGINS")
CSRF_TRUSTED_ORIGINS += [origin for host in _PUBLIC_HOSTS if (origin := f"https://{host}") not in CSRF_TRUSTED_ORIGINS]
# How many proxies in front append to X-Forwarded-For, so that tries to sign in are counted by the client's address.
GATEWAY_PROXIES = envint("GATEWAY_PROXIES", 1, least=1, most=10)

# --- the gateway ---------------------------------------------------------------------------------------
GATEWAY_VERSION = __version__
GATEWAY_AUTH = envchoice("GATEWAY_AUTH", "open" if ON_LOOPBACK else "required", ("required", "open"))
# Which variables and files providers' keys may be in, beside those of routing/upstreams/disclosure.py.
GATEWAY_KEY_NAMES = envlist("GATEWAY_KEY_NAMES")
GATEWAY_KEY_DIR = envstr("GATEWAY_KEY_DIR", "/run/secrets")
if not GATEWAY_KEY_DIR.startswith("/") or GATEWAY_KEY_DIR.strip("/") == "":
    raise InvalidEnvironment("GATEWAY_KEY_DIR", "should be the absolute path of the folder of providers' keys, not /")
GATEWAY_MAX_BODY_BYTES = envint("GATEWAY_MAX_BODY_BYTES", 20 * 2**20, least=1024, most=2**30)
GATEWAY_MAX_UPLOAD_BYTES = envint("GATEWAY_MAX_UPLOAD_BYTES", 32 * 2**20, least=1024, most=2**30)
GATEWAY_LOG_LEVEL = envchoice("GATEWAY_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))

# --- the processes that serve (read by gunicorn.conf.py) ---------------------------------------------------
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
WEB_CONCURRENCY = envint("WEB_CONCURRENCY", min(_CORES, 4), least=1, most=256)
GATEWAY_WORKER_CLASS = envchoice("GATEWAY_WORKER_CLASS", "gevent", ("gevent", "stock-gevent", "gthread"))
#: How requests that spend reach their view: past Django's middleware (routing/api/entry.py), or through all of it.
GATEWAY_ENTRY = envchoice("GATEWAY_ENTRY", "short", ("short", "django"))
#: Who reads plain requests: gateway_project/plain_requests.py, or gunicorn's own parser, as all others.
GATEWAY_PARSER = envchoice("GATEWAY_PARSER", "short", ("short", "gunicorn"))
#: Who speaks HTTP with the providers: routing/upstreams/http/exchange.py, or urllib3 as stock.py uses it.
GATEWAY_EXCHANGE = envchoice("GATEWAY_EXCHANGE", "own", ("own", "urllib3"))
#: Whether text goes past litellm's translators (routing/upstreams/plain_conversations.py, plain_answers.py).
GATEWAY_TRANSLATION = envchoice("GATEWAY_TRANSLATION", "short", ("short", "litellm"))
WORKER_THREADS = 64  # gthread only, where each request takes a thread

# --- places: how much of a worker clients may take (routing/api/places.py) ---------------------------------
# Requests that spend, at once in a worker. What is left of its connections is for health, the admin and idle clients.
PLACES = 3000 if GATEWAY_WORKER_CLASS != "gthread" else WORKER_THREADS - 8
# Beside them, those whose client has gone. A thread of gthread is taken by its request to the end, whoever is there.
PLACES_OF_CLIENTS_THAT_LEFT = 500 if GATEWAY_WORKER_CLASS != "gthread" else 0
WORKER_CONNECTIONS = PLACES + PLACES_OF_CLIENTS_THAT_LEFT + 1000
GATEWAY_KEY_CONCURRENCY = envint("GATEWAY_KEY_CONCURRENCY", min(100, PLACES // 2), least=1, most=PLACES)
GATEWAY_BODIES_BYTES = envint("GATEWAY_BODIES_BYTES", 256 * 2**20, least=2**20, most=2**36)

# --- the database --------------------------------------------------------------------------------------
_given = envdatabase("DATABASE_URL")
# The data directory of the embedded Postgres; None when DATABASE_URL names another server.
EMBEDDED_POSTGRES_DIR = None if _given else DATA_DIR / "postgres"
if EMBEDDED_POSTGRES_DIR and not ON_LOOPBACK:
    raise InvalidEnvironment(
        "DATABASE_URL",
        f"is required when HOST is {HOST}: postgresql://USER:PASSWORD@HOST:5432/DATABASE",
    )
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        **(_given.settings if _given else embedded_postgres.django_settings(DATA_DIR / "postgres")),
        # Under gevent each client's greenlet has its own database connection. If they stayed open, there would be as
        # many as clients. Requests that spend do not use these connections: the ledger has its own.
        "CONN_MAX_AGE": 0,
    }
}
# Parameters of other clients in DATABASE_URL: a system check names them.
DATABASE_URL_IGNORED = _given.ignored if _given else ()
DATABASES["default"]["OPTIONS"].setdefault("connect_timeout", 5)
DATABASES["default"]["OPTIONS"].setdefault("application_name", "gateway")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"


# --- secrets -------------------------------------------------------------------------------------------
def _kept_secret_key(path: Path) -> str:
    """The key that the first start on this machine made and stored."""
    cure = "or set SECRET_KEY, or set GATEWAY_DATA_DIR to another directory"
    try:
        key = _stored_secret_key(path)
    except OSError as error:
        # Where the disk is full, the error names no file.
        raise InvalidEnvironment(str(error.filename or path), f"{what_is_wrong(error)}, {cure}") from error
    except UnicodeDecodeError as error:
        raise InvalidEnvironment(str(path), f"holds no text: remove it, {cure}") from error
    if not key:
        raise InvalidEnvironment(str(path), f"is empty: remove it, {cure}")
    return key


def _stored_secret_key(path: Path) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, unfinished = tempfile.mkstemp(
            prefix=f"{path.name}.", dir=path.parent
        )  # private, as the key must be
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(secrets.token_urlsafe(48))
            with suppress(FileExistsError):  # when two first starts race, one of them wins
                os.link(unfinished, path)
        finally:
            Path(unfinished).unlink()
    return path.read_text(encoding="utf-8").strip()


SECRET_KEY = envstr("SECRET_KEY")
if not SECRET_KEY:
    if not ON_LOOPBACK:
        raise InvalidEnvironment("SECRET_KEY", f"is required when HOST is {HOST}: 50 random characters or more")
    SECRET_KEY = _kept_secret_key(DATA_DIR / "secret_key")

# --- Django --------------------------------------------------------------------------------------------
DEBUG = False
INSTALLED_APPS = [
    "unfold",  # before django.contrib.admin: its templates replace the admin's
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "corsheaders",
    "rest_framework",
    "accounting",
    "routing",
    "gateway_project",  # for its system checks
]
MIDDLEWARE = [
    "routing.api.middleware.GatewayMiddleware",  # outermost, so that each answer has a request id
    "corsheaders.middleware.CorsMiddleware",  # outside JsonErrors, so that pages may read errors
    "routing.api.middleware.JsonErrors",
    "routing.api.browsers.Forms",  # before anything that reads a form
    "gateway_project.health.BeforeTheHostCheck",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "routing.api.browsers.Reading",  # not for static files
    "routing.api.browsers.Sessions",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "routing.api.browsers.Authentication",
    "routing.api.browsers.Messages",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "routing.api.browsers.OnRecord",
]
ROOT_URLCONF = "gateway_project.urls"
WSGI_APPLICATION = "gateway_project.wsgi.application"
APPEND_SLASH = True
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "gateway_project" / "templates"],  # before unfold's, which two of them replace
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
PASSWORD_HASHERS = ["routing.admin.passwords.Hasher"]
LANGUAGE_CODE = "en-us"
USE_I18N = False
TIME_ZONE = "UTC"
USE_TZ = True
FORMAT_MODULE_PATH = "gateway_project.formats"  # times in the admin
# The API's views read bodies themselves and apply GATEWAY_MAX_BODY_BYTES. This is the limit for the admin's forms.
DATA_UPLOAD_MAX_MEMORY_SIZE = 2**20
FILE_UPLOAD_HANDLERS: list[str] = []  # no form of ours has a file: what is sent as one is not kept
LOGGING = gateway_logging.configuration(GATEWAY_LOG_LEVEL)

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "routing.api.negotiation.OneFormat",
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "EXCEPTION_HANDLER": "routing.api.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
}

UNFOLD = console.UNFOLD

# --- static files --------------------------------------------------------------------------------------
STATIC_URL = "static/"
# In the image they are collected, compressed and named by content. Elsewhere they are served from the packages.
_COLLECTED_DIR = BASE_DIR / "staticfiles"
_COLLECTED = (_COLLECTED_DIR / "staticfiles.json").exists() or "collectstatic" in sys.argv
STATIC_ROOT = _COLLECTED_DIR if _COLLECTED else None
WHITENOISE_USE_FINDERS = not _COLLECTED
WHITENOISE_AUTOREFRESH = False
WHITENOISE_ALLOW_ALL_ORIGINS = False  # other origins have no use for the admin's files
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": (
            "whitenoise.storage.CompressedManifestStaticFilesStorage"
            if _COLLECTED
            else "django.contrib.staticfiles.storage.StaticFilesStorage"
        )
    },
}

# --- browsers ------------------------------------------------------------------------------------------
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_SSL_REDIRECT = HTTPS
# Only the admin redirects to https. Clients in a private network and a platform's health check use plain http.
SECURE_REDIRECT_EXEMPT = [r"^(?!admin/)"]
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 7 * 24 * 3600
X_FRAME_OPTIONS = "DENY"
# Which web pages may call the API. The API ignores cookies: a page's requests need an API key, as all others do.
_origins = envorigins("CORS_ALLOWED_ORIGINS")
CORS_ALLOWED_ORIGINS = [origin for origin in _origins if "*" not in origin]
CORS_ALLOWED_ORIGIN_REGEXES = [subdomains_pattern(origin) for origin in _origins if "*" in origin]
CORS_URLS_REGEX = r"^(?!/admin/|/static/)"  # the API's paths, as in routing.api.errors.is_api
CORS_ALLOW_METHODS = ["GET", "POST", "OPTIONS"]
# Clients send their own headers (x-stainless-…). The wildcard allows every header except "authorization":
# https://fetch.spec.whatwg.org/#cors-non-wildcard-request-header-name
CORS_ALLOW_HEADERS = ["authorization", "*"]
CORS_PREFLIGHT_MAX_AGE = 600
CORS_EXPOSE_HEADERS = [
    "x-request-id",
    "request-id",
    "retry-after",
    "x-should-retry",
    *(
        f"x-gateway-{name}"
        for name in (
            *("alias", "provider", "model", "attempts", "fallback"),
            *("cost-usd", "dropped-params", "output-cap"),
        )
    ),
    *(
        f"x-ratelimit-{part}-{counted}"
        for part in ("limit", "remaining", "reset")
        for counted in ("requests", "tokens")
    ),
]
SILENCED_SYSTEM_CHECKS = [
    # The gateway decides for its own host name only, not for its subdomains and not for its domain's other names.
    "security.W005",  # HSTS for subdomains
    "security.W021",  # HSTS preload
]

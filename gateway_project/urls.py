"""Which view answers which path."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from gateway_project import health

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("routing.urls")),  # first, because most requests are for the API
    path("", health.present),
    path("health", health.health),
    path("health/", health.health),
    path("health/live", health.live),
    path("health/ready", health.ready),
    path("health/liveliness", health.alive),
    path("health/liveness", health.alive),
    path("health/readiness", health.readiness),
    path("admin/", admin.site.urls),
]

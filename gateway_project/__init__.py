"""The Django project: settings, the launcher and gunicorn, health, logs and system checks."""

__version__ = "0.2.0"

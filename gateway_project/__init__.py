"""The Django project: settings, the processes that serve, and what is asked about them."""

__version__ = "0.2.0"

"""Money in templates: ``{% load money %}``."""

from django import template

from accounting.money import plain_usd

register = template.Library()
register.filter("plain_usd", plain_usd)

"""Money in templates: ``{% load money %}``."""

from django import template

from accounting.amounts import usd

register = template.Library()
register.filter("usd", usd)

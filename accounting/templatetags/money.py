"""Money in templates: ``{% load money %}``."""

from django import template

from accounting.money import dollars

register = template.Library()
register.filter("dollars", dollars)

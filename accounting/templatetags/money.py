"""Money in templates: ``{% load money %}``. ``usd`` is for reading, ``dollars`` where each digit decides."""

from django import template

from accounting.amounts import usd
from accounting.money import dollars

register = template.Library()
register.filter("usd", usd)
register.filter("dollars", dollars)

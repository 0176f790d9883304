"""Moderations: whether a text or a picture is harmful."""

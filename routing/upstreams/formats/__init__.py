"""Anthropic's and Gemini's wire formats, by litellm's own provider classes.

For each: what `litellm.completion()` does to a request before it sends it, and with the answer after it has come, as
litellm's handlers do it (`llms/anthropic/chat/handler.py`, `llms/vertex_ai/gemini/…`), without its HTTP clients, its
logging, its callbacks and its cost calculation. tests/wire/test_equivalence.py holds both against each other.
"""

"""OpenAI's completions of the old kind: a text goes on."""

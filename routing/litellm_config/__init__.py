"""LiteLLM's ``config.yaml``, in and out: https://docs.litellm.ai/docs/proxy/config_settings

``reading`` turns the file into values and names what it cannot take over, ``applying`` brings the database to them in
one transaction, ``writing`` is the way back. ``docs/load-config.md`` says what becomes of each key.
"""

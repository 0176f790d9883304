"""LiteLLM's ``config.yaml``, in and out: https://docs.litellm.ai/docs/proxy/config_settings

``reading`` turns the file into values and names the keys that it cannot take over. ``applying`` writes the values to
the database in one transaction. ``writing`` makes a file from the database. ``docs/load-config.md`` says what happens
to each key.
"""

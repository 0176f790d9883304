"""The providers: one interface (`base`), three kinds behind it (`relay`, `translate`, `sdk`), one HTTP client.

The only room that imports litellm.
"""

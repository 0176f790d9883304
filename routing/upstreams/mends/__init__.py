"""What litellm's translation leaves wrong, put right.

litellm translates parameter by parameter. A provider refuses combinations, and litellm fills in words where a
provider wants some. The rules here mend both, one small function a rule, with the page of the provider that says so.

Before the translation: `conversation` (what was said), `parameters` and `schemas` (what was asked for). After it:
`anthropic` and `gemini` (what may stand beside what), and `endings` (what comes back). Two rooms mend what is not
translated: `messages` (a body in Anthropic's own format, for another Claude) and `names` (functions at providers of
OpenAI's format). A rule answers with the names of
the client's parameters that it dropped or changed: the client is told of them.
"""

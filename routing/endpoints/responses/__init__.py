"""OpenAI's Responses, without a store: by way of chat at every provider."""

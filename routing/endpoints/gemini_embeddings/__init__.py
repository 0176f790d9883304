"""Google's embedContent and batchEmbedContents, by way of OpenAI's embeddings."""

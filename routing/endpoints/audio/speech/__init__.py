"""Speech: sound for a text."""

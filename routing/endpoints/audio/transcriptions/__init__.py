"""Transcriptions and translations: text for sound."""

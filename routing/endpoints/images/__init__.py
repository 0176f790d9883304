"""Pictures: made from a text."""

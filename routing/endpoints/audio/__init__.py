"""Sound: spoken from text, written down as text, or translated."""

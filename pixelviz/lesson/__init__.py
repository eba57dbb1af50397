"""The lesson: steps whose answers are computed, exercises, and the words of every language."""

"""The tests; what several of them share is imported from here: ``from tests.notebooks import copies``."""

"""What contributors run from the repository's root: ``python -m tools.lint`` and the others; `make` calls them."""

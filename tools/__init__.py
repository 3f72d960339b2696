"""What contributors run from the repository's root: ``python -m tools.lint``, ``publish``, ``tables``, ``proof`` and the site's two."""

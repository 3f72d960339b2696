"""Self-contained figures in HTML and JavaScript, one file each, that a notebook or a page shows."""

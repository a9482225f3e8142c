"""One query path: a search in, hits out."""

"""Text into words, grains and BM25 scores."""

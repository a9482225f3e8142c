"""Text into its normal form, words, grains and BM25 scores."""

"""Online evidence: what an A/B test, an interleaved test or an old log says about a change of the search."""

"""A run as a feed for another search engine: OpenSearch, Elasticsearch or Qdrant, with a query like the hybrid."""

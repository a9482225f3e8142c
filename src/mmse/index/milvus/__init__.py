"""The store of vectors in a Milvus server: `[index] store = "milvus"` (docs/vector_stores.md)."""

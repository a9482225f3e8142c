"""Mining on Spark: it reads, shuffles and sorts the log, and DuckDB checks and merges the rows of each partition."""

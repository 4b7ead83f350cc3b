"""The embedded stack, for demo, tests and benchmarks: PostgreSQL, a broker and S3. Never for production."""

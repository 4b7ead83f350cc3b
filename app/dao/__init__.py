"""SQL only, no policy: every function takes a connection within a transaction, and every value is bound."""

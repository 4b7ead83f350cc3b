"""The version of the product, and the only place where it stands."""

VERSION = "0.1.0"

"""Letter files in S3: where they can be, which are there, and their deletion.

Imports nothing else of `app`: names, time zone, limits and the S3 client are passed in.
"""

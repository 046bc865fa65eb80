"""What traders write: the schema of campaign files, loading them, and the compiled catalogue."""

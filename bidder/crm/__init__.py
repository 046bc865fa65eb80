"""What the CRM brings in: ingest, segments, rights. The engine never imports it."""

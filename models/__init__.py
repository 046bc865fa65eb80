"""Offline learning: from logged rows to a model directory that the bidder loads."""

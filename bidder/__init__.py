"""A real-time bidding engine for CRM-driven display retargeting."""

"""What would we have won? Logged auctions bid on again by the project's own pricing code."""

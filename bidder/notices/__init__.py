"""What do exchanges and browsers tell us? Sealed tokens, reading notices, and applying them."""

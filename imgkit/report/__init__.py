"""Tables over run folders; they read text only."""

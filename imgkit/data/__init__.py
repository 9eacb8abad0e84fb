"""Pictures: where they are, what they show, and how they reach the network."""

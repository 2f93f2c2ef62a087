"""What a bundle is worth: its scores, and whether another one is better."""

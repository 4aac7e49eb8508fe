"""What Redis must be able to do, asked at start."""

"""What is noted of each job, and read back."""

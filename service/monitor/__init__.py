"""What is going on: written by workers and web processes once a second, read by the dashboard."""

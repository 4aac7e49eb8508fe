"""The user's room: one module per topic; a new file here is found by itself."""

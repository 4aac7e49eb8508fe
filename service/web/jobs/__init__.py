"""Following jobs over HTTP."""

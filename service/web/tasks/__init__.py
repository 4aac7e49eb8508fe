"""Starting jobs over HTTP."""

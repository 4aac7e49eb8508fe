"""One job, as its task sees it."""

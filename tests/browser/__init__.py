"""Tests in a real browser, by page and not by room: a page shows what all rooms do together."""

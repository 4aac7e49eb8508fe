"""The app's own Celery app."""

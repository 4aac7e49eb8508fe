"""The Redis transport that loses nothing; Celery finds it by `broker_transport`."""

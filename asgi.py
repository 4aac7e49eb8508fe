"""The web side: `hypercorn asgi:app`."""

from service import create_app

app = create_app()

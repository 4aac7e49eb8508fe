"""ASGI before the app: what Quart does not show, does not ask, or cannot answer.

middleware.py  learns of the server's stop; may refuse what nothing here wants
proxies.py     what trusted proxies say of a request; the client's address
hosts.py       refuses odd hosts, and those that are not served here
problem.py     problem details (RFC 9457), and an answer with them without the app
connection.py  cuts a client off
mount.py       serves the app of a host of another kind, under the path that this has given it

The lowest room of the web: it knows nothing of routes and pages. In a host's own app it touches
only requests for our own endpoints.
"""

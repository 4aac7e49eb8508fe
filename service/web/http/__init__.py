"""What every route shares: kinds of answers, errors, security and the document of the interface.

site.py         which sections a site has, where, and how they look; renders its templates
security.py     headers on every answer; refuses what other sites make a browser send
cors.py         lets pages of the origins that are allowed use the API
negotiation.py  whether a request wants a page, JSON or events, and how long it waits
problems.py     every error as problem details or as a page: one row for each status
streams.py      event streams: an event's text (id, data), and the clean-up when a client leaves
openapi.py      the OpenAPI document, from routes with an `Operation` and the public tasks
files.py        static files
filters.py      numbers, times and text as templates show them

Of this room only `problems` knows which error has which status.
"""

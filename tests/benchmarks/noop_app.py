"""This service with one route more, which does nothing: the most that the server can give."""

from service import create_app

app = create_app()


@app.get("/noop")
async def noop() -> dict[str, bool]:
    """Do nothing."""
    return {"ok": True}

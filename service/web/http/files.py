"""Serves the files of a folder."""

from quart import Blueprint, Response
from werkzeug.exceptions import NotFound


class FileBlueprint(Blueprint):
    """A blueprint whose static folder lacks each file that the file system cannot look for."""

    async def send_static_file(self, filename: str) -> Response:
        """Answer with the file. Raises NotFound."""
        try:
            return await super().send_static_file(filename)
        except (OSError, ValueError) as error:  # too long a name, or a NUL in it
            raise NotFound from error

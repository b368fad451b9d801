"""Parsing of uploads, as gradio does it, but an upload that is broken off or malformed leaves no file."""

from __future__ import annotations

from pathlib import Path

from gradio import route_utils
from gradio_client.utils import strip_invalid_filename_characters
from starlette.requests import ClientDisconnect


class Upload(route_utils.GradioMultiPartParser):
    """The parser of an upload, which leaves no parts of one that is broken off or malformed, and refuses the latter."""

    async def parse(self):
        try:
            form = await super().parse()
            files = form.getlist("files")
            if any(isinstance(part, str) for part in files) or len(files) < len(self._files_to_close_on_error):
                raise route_utils.MultiPartException("The upload is not whole, or holds something else than files.")
            for part in files:
                part.filename = strip_invalid_filename_characters(Path(part.filename or "").name).strip(".")
            return form
        except BaseException as error:
            for file in self._files_to_close_on_error:
                file.close()
                Path(file.name).unlink(missing_ok=True)
            if isinstance(error, ClientDisconnect):
                raise route_utils.MultiPartException("The upload was broken off.") from None
            if isinstance(error, OSError):
                raise route_utils.MultiPartException(
                    "There is no room for this upload right now; try again later."
                ) from None
            if isinstance(error, (LookupError, ValueError)):
                raise route_utils.MultiPartException(
                    "This is no upload that can be understood; allowed is multipart/form-data with files."
                ) from None
            raise


route_utils.GradioMultiPartParser = Upload  # what gradio's upload makes one of

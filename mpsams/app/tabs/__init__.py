"""The tabs of the page, one file each: TITLE, PLACE and ``build(session)``."""

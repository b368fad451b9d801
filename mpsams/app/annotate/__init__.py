"""The Annotate tab in parts: the canvas and what runs in the browser (*.js), the session that handles its
commands, and the column beside it.
"""

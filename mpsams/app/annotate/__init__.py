"""The Annotate tab in parts: the canvas and what runs in the browser (*.js), the desk that obeys it, and the column
beside it.
"""

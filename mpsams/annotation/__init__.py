"""Annotations: a folder of images, proposed and corrected masks, and a log of who did what
(``docs/reference/project-folder.md``).
"""

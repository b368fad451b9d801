"""Serving the page to strangers: accounts, allowed hosts, request limits, uploads, and the budget of
memory and disk.
"""

"""Shared parts of tests: files made by code, pages, servers, browsers."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # of the clone

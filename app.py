"""The web app; ``python app.py --help`` lists its options."""

from mpsams.app.application import create
from mpsams.app.main import main

__all__ = ["create", "main"]

if __name__ == "__main__":
    main()

"""Accounts that may sign in: a file of names and hashed passwords, and the check of one.

A line is ``name:scrypt:N:r:p:salt:hash``, numbers in decimal, bytes in hex. Source: RFC 7914.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from fastapi import HTTPException

from mpsams import checkpoint
from mpsams.app.server.guard import CLIENT
from mpsams.app.server.sign_in_limits import FREE, Guesses

SHORTEST, LONGEST = 8, 256  # characters of a password
_LONGEST_NAME = 64
_COST, _BLOCK, _PARALLEL, _BYTES = 2**15, 8, 1, 32  # 32 MiB and some 60 ms a guess
_MEMORY = 2**26
_REFUSAL_SECONDS = 1.0
SIGN_IN = (
    f"After {FREE} wrong passwords in a row the next try has to wait, for longer each time, a quarter of an hour at"
    " most."
)


def hashed(password: str) -> str:
    """Return the hash of a password as it is stored in the file. ValueError for one that is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise ValueError(f"the password has {len(password)} characters; allowed are {SHORTEST} to {LONGEST}")
    salt = secrets.token_bytes(16)
    return ":".join(("scrypt", str(_COST), str(_BLOCK), str(_PARALLEL), salt.hex(), _digest(password, salt).hex()))


def read(path: Path) -> dict[str, str]:
    """Read the accounts: name -> hashed password. ValueError for a line that is no account, or without any."""
    found = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        name, _, rest = line.partition(":")
        if not line.strip():
            continue
        if not is_name(name) or not _is_hash(rest):
            raise ValueError(f"line {number} is no account; allowed is what --add-login writes, name:scrypt:…")
        found[name] = rest
    if not found:
        raise ValueError("there are no accounts; add one with --add-login NAME")
    return found


def add(path: Path, name: str, password: str) -> None:
    """Write an account into the file, which only its owner may read, or replace it. ValueError for a wrong name."""
    if not is_name(name):
        raise ValueError(f"name {name!r}; allowed are 1 to 64 printable characters without colon and space")
    there = read(path) if path.is_file() and path.read_text(encoding="utf-8").strip() else {}
    there[name] = hashed(password)
    with checkpoint.atomic_path(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text("".join(f"{name}:{rest}\n" for name, rest in there.items()), encoding="utf-8")


def is_name(name: str) -> bool:
    """Return True if this can be somebody's name here."""
    return 0 < len(name) <= _LONGEST_NAME and name.isprintable() and not set(": \t") & set(name)


def checker(accounts: Mapping[str, str], guesses: Guesses | None = None) -> Callable[[str, str], Awaitable[bool]]:
    """Return a function that checks a name and a password for gradio. HTTPException 429 after too many attempts.

    A wrong guess is answered after a second, for a name that there is not as for one that there is. Only a name that
    there is costs a hash, and a try that is refused costs none.
    """
    # one hash at a time, so that guessing costs one core at most
    guesses, turn = guesses or Guesses(accounts), asyncio.Semaphore(1)

    async def allowed(name: str, password: str) -> bool:
        name, address, answered = (
            name[: _LONGEST_NAME + 1],
            CLIENT.get(),
            asyncio.get_running_loop().time() + _REFUSAL_SECONDS,
        )
        seconds = math.ceil(guesses.ask(name, address))
        if seconds:
            message = f"Too many wrong passwords; try again in {seconds} seconds."
            raise HTTPException(429, message, headers={"Retry-After": str(seconds)})
        if name in accounts and len(password) <= LONGEST:
            async with turn:
                right = await asyncio.to_thread(_matches, accounts[name], password)
            if right:
                guesses.right(name, address)
                return True
        await asyncio.sleep(answered - asyncio.get_running_loop().time())
        return False

    return allowed


def _matches(stated: str, password: str) -> bool:
    *_, salt, digest = stated.split(":")
    return hmac.compare_digest(_digest(password, bytes.fromhex(salt)).hex(), digest)


def _digest(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL, dklen=_BYTES, maxmem=_MEMORY)


def _is_hash(rest: str) -> bool:
    parts = rest.split(":")
    try:
        fits = len(bytes.fromhex(parts[-2])) >= 8 and len(bytes.fromhex(parts[-1])) == _BYTES
    except (ValueError, IndexError):
        return False
    return fits and parts[:-2] == ["scrypt", str(_COST), str(_BLOCK), str(_PARALLEL)]

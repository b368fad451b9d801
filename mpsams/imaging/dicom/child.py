"""The program that decodes compressed DICOM frames in a process of its own, limited in memory and time.

For each frame it reads a line of JSON, "syntax", "size" and the arguments of pydicom's ``Decoder.as_array``, and then
the frame; it writes a line of JSON, "dtype", "shape" and "photometric", and then the samples. It ends on the first
frame that cannot be decoded, one way or another.
"""

import json
import os
import signal
import sys

MEMORY = 2**32  # bytes of address space
SECONDS, SECONDS_PER_MEGAPIXEL = 5.0, 2.0  # of processor time for a frame


def main() -> None:
    import numpy as np
    from pydicom.pixels import get_decoder

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # decoders in C print where they like
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        decoder, frame = get_decoder(request.pop("syntax")), sys.stdin.buffer.read(request.pop("size"))
        if hasattr(signal, "setitimer"):  # whose signal ends the process
            signal.setitimer(
                signal.ITIMER_PROF, SECONDS + SECONDS_PER_MEGAPIXEL * request["rows"] * request["columns"] / 1e6
            )
        samples, meant = decoder.as_array(frame, **request)
        answer = {
            "dtype": samples.dtype.str,
            "shape": samples.shape,
            "photometric": str(meant["photometric_interpretation"]),
        }
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.write(np.ascontiguousarray(samples).data)
        answers.flush()


if __name__ == "__main__":
    main()

"""Let a child process parse HDF5 files first, so that one on which HDF5 hangs or crashes ends in one line."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fuxictr_me.errors import UsageError

SECONDS = 60  # to start, and one more for each file
PARSE = """
import sys
import h5py
for path in sys.argv[1:]:
    print(path, flush=True)
    try:
        with h5py.File(path, "r") as file:
            list(file.attrs.items())
            for name in file:
                if isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Dataset):
                    dataset = file[name]
                    dataset.shape, dataset.dtype, dataset.chunks, dataset.external, dataset.is_virtual
                    dataset.id.get_storage_size(), dataset.id.get_offset()
                    dataset.chunks and dataset.id.get_num_chunks()
    except Exception:
        pass
"""


def rehearse_parsing(paths: Sequence[Path]) -> None:
    """Parse the metadata of files in another process, which takes about half a second.

    What HDF5 reports as an error is left to the caller, who opens the files next.

    Raises:
        UsageError: HDF5 did not come to an end with a file, or crashed on it.
    """
    if not paths:
        return
    command = [sys.executable, "-I", "-c", PARSE, *(str(Path(path).absolute()) for path in paths)]
    try:
        child = subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS + len(paths), check=False
        )
        output, has_ended = child.stdout, child.returncode >= 0
    except subprocess.TimeoutExpired as error:
        output, has_ended = error.stdout, False
    begun = (output or b"").decode(errors="replace").splitlines()
    if begun and not has_ended:
        raise UsageError(f"{begun[-1]} is damaged: HDF5 hangs or crashes on it")

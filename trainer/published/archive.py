"""torch.save's file: a zip that holds data.pkl and the bytes of each storage, uncompressed."""

import io
import zipfile
from typing import Any

from torch import Tensor

from .pickles import PickleReader
from .tensors import STORAGE_NAMES, TENSOR_NAMES, storage, storage_id

SIGNATURE = b"PK\x03\x04"


def read_archive(content: bytes) -> Any:
    """The object that torch.save wrote, of plain data and tensors."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        # Uncompressed and no more than the file has: a small file can't ask for much memory.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("a compressed zip is no file of torch.save")
        if sum(entry.file_size for entry in entries) > len(content):
            raise ValueError("the zip says that it holds more bytes than it has: the file is damaged")
        pickles = [entry.filename for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("a zip without one data.pkl is no file of torch.save")
        folder = pickles[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ValueError("its numbers are not little-endian")
        stored: dict[str, Tensor] = {}

        def refer(identifier: Any) -> Tensor:
            dtype, key, numbers = storage_id(identifier)
            if key not in stored:
                stored[key] = storage(archive.read(f"{folder}data/{key}"), dtype, numbers)
            return stored[key]

        return PickleReader({**TENSOR_NAMES, **STORAGE_NAMES}, refer).load(io.BytesIO(archive.read(pickles[0])))

import hashlib
from pathlib import Path

import numpy as np

from windows.reading.digest import digest


def test_a_digest_is_that_of_the_bytes_on_disk(tmp_path: Path):
    rows = np.arange(64, dtype=np.uint32).reshape(4, 16) * 65537
    rows.astype("<u4").tofile(tmp_path / "a.npy")
    assert digest(rows) == hashlib.sha256((tmp_path / "a.npy").read_bytes()).hexdigest()
    assert digest(rows[:, ::-1]) == digest(rows[:, ::-1].copy()) != digest(rows)
    assert digest(rows[:0]) == hashlib.sha256(b"").hexdigest()

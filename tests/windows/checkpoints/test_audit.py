import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from windows.checkpoints.audit import Audit, Equal, audit
from windows.checkpoints.catalogs import Catalog, CatalogEntry, hub_catalog, local_catalog
from windows.checkpoints.hub import Hub
from windows.errors import DataError
from windows.progress import Advance

PYTHIA = "EleutherAI/pythia-12b"
Revisions = dict[str, dict[str, bytes]]


def weights(*seed: int) -> bytes:
    return save({"w": np.random.default_rng(seed).normal(size=(64, 64)).astype(np.float32)})


def shards(step: int, count: int = 3) -> dict[str, bytes]:
    names = [f"model-{n + 1:05d}-of-{count:05d}.safetensors" for n in range(count)]
    found = {name: weights(step, n) for n, name in enumerate(names)}
    return found | {"config.json": b"{}", "model.safetensors.index.json": b"{}"}


def published(*steps: int) -> Revisions:
    """A run as it should be: every step has weights of its own, main those of the last."""
    return {f"step{step}": shards(step) for step in steps} | {"main": shards(max(steps))}


class Counted(Advance):
    def __init__(self) -> None:
        self.done: list[int] = []

    def __call__(self, n: int = 1) -> None:
        self.done.append(n)


@pytest.fixture(params=["server", "cache", "cache, all bytes", "folder", "folder, all bytes"])
def audited(
    request: pytest.FixtureRequest, tmp_path: Path, hub_server: Any, hub_cache: Callable[..., Path]
) -> Callable[[Revisions], Audit]:
    """Audits revisions that lie on a server, in a cache or in a folder, with the same outcome."""
    where, _, how = request.param.partition(", ")

    def run(revisions: Revisions) -> Audit:
        if where == "server":
            hub = Hub(hub_server.url)
            hub_server.repos[PYTHIA] = revisions
            catalog = hub_catalog(PYTHIA, run="pythia", hub=hub)
        elif where == "cache":
            hub = Hub(cache=hub_cache(PYTHIA, revisions), local_only=True)
            catalog = hub_catalog(PYTHIA, run="pythia", hub=hub)
        else:
            hub = Hub(local_only=True)
            for name, files in revisions.items():
                for file, data in files.items():
                    (tmp_path / "run" / name).mkdir(parents=True, exist_ok=True)
                    (tmp_path / "run" / name / file).write_bytes(data)
            catalog = local_catalog(tmp_path / "run", "pythia")
        counted = Counted()
        found = audit(catalog, advance=counted, hub=hub, all_bytes=bool(how))
        assert sum(counted.done) == len(revisions)
        assert found.sampled == (request.param == "folder")
        return found

    return run


def test_a_clean_run_has_nothing_to_report(audited: Callable[[Revisions], Audit]):
    found = audited(published(0, 1, 1000, 2000, 143_000))
    assert (found.checked, found.equal, found.clean) == (6, (), True)


def test_revisions_that_serve_the_final_weights_are_found(audited: Callable[[Revisions], Audit]):
    # pythia issue 205, with its second group: later steps that share weights which are not main's.
    revisions = published(0, 1, 512, 1000, 2000, 3000, 4000, 143_000)
    for name in ("step0", "step1", "step1000"):
        revisions[name] = revisions["main"]
    revisions["step3000"] = revisions["step2000"]
    found = audited(revisions)
    files = tuple(sorted(name for name in shards(0) if name.endswith("tensors")))
    assert found.equal == (
        Equal(("step0", "step1", "step1000", "step143000", "main"), files, whole=True),
        Equal(("step2000", "step3000"), files, whole=True),
    )
    assert [group.final for group in found.equal] == [True, False]
    assert [str(group) for group in found.equal] == [
        "step0, step1, step1000, step143000: the same weights, those of the final model",
        "step2000, step3000: the same weights",
    ]
    assert not found.clean


def test_a_first_shard_that_is_the_final_one_is_found(audited: Callable[[Revisions], Audit]):
    # pythia issue 206.
    revisions = published(0, 50_000, 57_000, 58_000, 143_000)
    first = "model-00001-of-00003.safetensors"
    for name in ("step50000", "step58000"):
        revisions[name] = revisions[name] | {first: revisions["main"][first]}
    found = audited(revisions)
    names = ("step50000", "step58000", "step143000", "main")
    assert found.equal == (Equal(names, (first,), whole=False),)
    assert str(found.equal[0]) == (
        f"step50000, step58000, step143000: the same {first}, those of the final model"
    )


def test_shards_that_are_equal_among_the_same_are_told_together(
    audited: Callable[[Revisions], Audit],
):
    revisions = published(0, 1000, 2000)
    for number in (1, 2):
        name = f"model-{number:05d}-of-00003.safetensors"
        revisions["step0"] = revisions["step0"] | {name: revisions["step1000"][name]}
    (equal,) = audited(revisions).equal
    assert (equal.names, len(equal.files), equal.whole) == (("step0", "step1000"), 2, False)


def test_one_step_that_serves_the_final_weights_is_found(audited: Callable[[Revisions], Audit]):
    revisions = published(0, 1000, 2000)
    revisions["step2000"] = shards(7)
    revisions["step1000"] = revisions["main"]
    (equal,) = audited(revisions).equal
    assert equal.names == ("step1000", "main")


def test_a_revision_without_weights_is_named(hub_server: Any):
    hub_server.repos[PYTHIA] = published(0, 1000) | {"step500": {"config.json": b"{}"}}
    catalog = hub_catalog(PYTHIA, run="pythia", hub=Hub(hub_server.url))
    found = audit(catalog, advance=Counted(), hub=Hub(hub_server.url))
    assert found.skipped == ("step500: no weight files",)
    assert not found.clean


def test_the_beginning_of_a_stage_is_the_checkpoint_it_began_with(hub_server: Any):
    revisions = {f"stage1-step{step}": shards(step) for step in (0, 10, 20)}
    revisions["stage2-ingredient1-step0"] = revisions["stage1-step10"]
    revisions["stage2-ingredient2-step0"] = revisions["stage1-step10"]
    revisions["stage2-ingredient1-step5"] = shards(25)
    revisions["main"] = revisions["stage2-ingredient1-step5"]
    hub_server.repos[PYTHIA] = revisions
    hub = Hub(hub_server.url)
    assert audit(hub_catalog(PYTHIA, run="a", hub=hub), advance=Counted(), hub=hub).clean
    revisions["stage2-ingredient1-step5"] = revisions["stage1-step10"]
    (equal,) = audit(hub_catalog(PYTHIA, run="a", hub=hub), advance=Counted(), hub=hub).equal
    assert len(equal.names) == 4


def test_steps_of_two_stages_that_are_equal_are_found(audited: Callable[[Revisions], Audit]):
    revisions = {f"stage{n}-step{step}": shards(step, n) for n in (1, 2) for step in (5, 10)}
    revisions["stage2-step5"] = revisions["stage1-step10"]
    (equal,) = audited(revisions).equal
    assert equal.names == ("stage1-step10", "stage2-step5")


def test_a_long_list_is_cut_in_its_line_only():
    names = tuple(f"step{step}" for step in range(86))
    equal = Equal((*names, "main"), ("model.safetensors",), whole=True)
    assert str(equal) == (
        "step0, step1, step2, step3, step4 and 81 more: the same weights, those of the final model"
    )


def test_no_byte_is_read_of_what_the_cache_names(hub_cache: Callable[..., Path]):
    cache = hub_cache(PYTHIA, published(0, 1000))
    for blob in cache.glob("*/blobs/*"):
        blob.write_bytes(b"")
    hub = Hub(cache=cache, local_only=True)
    catalog = hub_catalog(PYTHIA, run="pythia", hub=hub)
    assert audit(catalog, advance=Counted(), hub=hub).clean


def test_a_flipped_bit_in_the_cache_is_found_where_all_bytes_are_read(
    hub_cache: Callable[..., Path],
):
    cache = hub_cache(PYTHIA, published(0, 1000))
    hub = Hub(cache=cache, local_only=True)
    catalog = hub_catalog(PYTHIA, run="pythia", hub=hub)
    path = catalog.entries[0].address.snapshot / "model-00002-of-00003.safetensors"
    data = bytearray(path.read_bytes())
    data[9000] ^= 4
    path.resolve().write_bytes(data)
    found = audit(catalog, advance=Counted(), hub=hub, all_bytes=True)
    assert found.damaged == (str(path),)
    assert not found.clean


def test_core_checkpoints_are_compared_file_by_file(tmp_path: Path):
    for step in (0, 10, 20):
        folder = tmp_path / f"step{step}" / "model_and_optim"
        folder.mkdir(parents=True)
        (folder / ".metadata").write_bytes(b"the same in all")
        for rank in range(2):
            (folder / f"__{rank}_0.distcp").write_bytes(weights(step, rank))
    catalog = local_catalog(tmp_path, "toy")
    assert audit(catalog, advance=Counted()).clean
    shutil.copy(
        tmp_path / "step20/model_and_optim/__1_0.distcp",
        tmp_path / "step10/model_and_optim/__1_0.distcp",
    )
    (equal,) = audit(catalog, advance=Counted()).equal
    assert equal == Equal(("step10", "step20"), ("model_and_optim/__1_0.distcp",), whole=False)


def test_pickled_weights_are_compared_and_not_loaded(tmp_path: Path):
    for step in (0, 10):
        folder = tmp_path / f"step{step}"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    (equal,) = audit(local_catalog(tmp_path, "toy"), advance=Counted()).equal
    assert equal.names == ("step0", "step10")


def test_what_lies_behind_a_url_is_named_as_not_compared():
    entry = CatalogEntry("toy", "stage1", 5, "step5", "https://a/step5", "olmo-core", None)
    found = audit(Catalog("toy", (entry,)), advance=Counted())
    assert (found.checked, found.clean) == (0, False)
    assert found.skipped == ("step5: files behind a URL cannot be listed",)


def test_ways_of_reading_that_cannot_be_compared_are_named(
    tmp_path: Path, hub_cache: Callable[..., Path]
):
    cached = hub_catalog(
        PYTHIA,
        run="pythia",
        hub=Hub(cache=hub_cache(PYTHIA, published(0, 1000)), local_only=True),
    )
    (tmp_path / "run" / "step5").mkdir(parents=True)
    for name, data in shards(0).items():
        (tmp_path / "run" / "step5" / name).write_bytes(data)
    entries = cached.entries + local_catalog(tmp_path / "run", "pythia").entries
    found = audit(Catalog("pythia", entries), advance=Counted())
    assert found.equal == ()
    assert found.skipped == (
        "some files are known by all bytes, some by samples: compare all bytes",
    )
    (equal,) = audit(Catalog("pythia", entries), advance=Counted(), all_bytes=True).equal
    assert equal.names == ("step0", "step5")


def test_weights_that_cannot_be_read_are_one_line(tmp_path: Path):
    (tmp_path / "step5").mkdir()
    (tmp_path / "step5" / "config.json").write_text("{}")
    (tmp_path / "step5" / "model.safetensors").write_bytes(weights(0))
    catalog = local_catalog(tmp_path, "toy")
    (tmp_path / "step5" / "model.safetensors").unlink()
    (tmp_path / "step5" / "model.safetensors").symlink_to("gone")
    with pytest.raises(DataError, match=r"model\.safetensors: weights cannot be read"):
        audit(catalog, advance=Counted())


def test_a_hub_that_fails_on_the_way_ends_the_audit(hub_server: Any):
    hub_server.repos[PYTHIA] = published(*range(40))
    hub = Hub(hub_server.url, attempts=1)
    catalog = hub_catalog(PYTHIA, run="pythia", hub=hub)
    hub_server.asked.clear()
    hub_server.faults = [(403, {})] * 100
    with pytest.raises(DataError, match="did not answer"):
        audit(catalog, advance=Counted(), hub=hub)
    assert len(hub_server.asked) < 41

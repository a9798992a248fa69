import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from windows.checkpoints.catalogs import (
    Catalog,
    count_tokens,
    hub_catalog,
    local_catalog,
    resolve_revision,
)
from windows.checkpoints.hub import Hub, HubRevision
from windows.errors import ConfigError, DataError
from windows.run import RunConfig, StepMapEntry, TokenizerFields

APERTUS = "swiss-ai/Apertus-8B-2509"
OLMO = "allenai/Olmo-3-1125-32B"


def run_config(stage: str, *entries: tuple[int, int, int]) -> RunConfig:
    return RunConfig(
        name="run",
        stage=stage,
        sequence_length=1,
        seed=0,
        step_map=tuple(
            StepMapEntry(first_step=step, first_batch=batch, batch_tokens=tokens)
            for step, batch, tokens in entries
        ),
        tokenizer=TokenizerFields(vocab_size=10, eos_id=0, pad_id=1),
    )


def named(*names: str) -> dict[str, dict[str, bytes]]:
    return {name: {"config.json": b"{}", "model.safetensors": name.encode()} for name in names}


def make_hf(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    save_file({"w": np.ones(2)}, path / "model.safetensors")


def make_core(path: Path) -> None:
    (path / "train").mkdir(parents=True)
    (path / "model_and_optim").mkdir()
    (path / "config.json").write_text("{}")
    (path / ".metadata.json").write_text("{}")
    (path / "train" / "rank0.pt").write_bytes(b"")
    (path / "model_and_optim" / ".metadata").write_bytes(b"")
    (path / "model_and_optim" / "__0_0.distcp").write_bytes(b"weights")


# --- tokens


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(-3, 3), st.integers(1, 50)), max_size=4),
    st.integers(0, 90),
)
def test_tokens_are_those_of_every_step(changes: list[tuple[int, int, int]], step: int):
    # A map with batch sizes that change, and batches skipped (jump > 0) or repeated (jump < 0).
    entries, at, batch = [(0, 0, 7)], 0, 0
    for steps, jump, tokens in changes:
        at, batch = at + steps, max(0, batch + steps + jump)
        entries.append((at, batch, tokens))
    run = run_config("stage1", *entries)
    every = sum(run.instances_per_batch(taken) for taken in range(step))
    assert count_tokens([run])("stage1", step) == every


def test_tokens_of_an_unknown_stage_or_before_the_first_step_are_unknown():
    tokens = count_tokens([run_config("stage1", (5, 0, 10)), run_config("stage2", (0, 0, 4))])
    assert tokens("stage1", 5) == 0
    assert tokens("stage1", 4) is None
    assert tokens("stage3", 4) is None
    assert tokens("stage2-ingredient1", 4) == 16


# --- the Hub


def test_revisions_of_a_repository_become_a_catalog(hub_server: Any):
    names = ["step50000-tokens210B", "longctx-step50", "step2627139-tokens15T", "main", "v2-draft"]
    hub_server.repos[APERTUS] = named(*names)
    batch = 4 << 20
    tokens = count_tokens([run_config("stage1", (0, 0, batch), (1_678_000, 1_678_000, 2 * batch))])
    catalog = hub_catalog(APERTUS, run="apertus", tokens=tokens, hub=Hub(hub_server.url))
    assert [(e.stage, e.step, e.name, e.tokens, e.kind) for e in catalog.entries] == [
        ("longctx", 50, "longctx-step50", None, "hub"),
        ("stage1", 50_000, "step50000-tokens210B", 50_000 * batch, "hub"),
        (
            "stage1",
            2_627_139,
            "step2627139-tokens15T",
            1_678_000 * batch + 949_139 * 2 * batch,
            "hub",
        ),
    ]
    assert [item.name for item in catalog.unknown] == ["main", "v2-draft"]
    assert catalog.notes == ()
    address = catalog.entries[0].address
    assert isinstance(address, HubRevision)
    assert (address.repo, address.name, address.snapshot) == (APERTUS, "longctx-step50", None)
    assert len(address.commit) == 40


def test_tags_are_listed_unless_a_branch_is_called_the_same(hub_server: Any):
    hub_server.repos[OLMO] = named("stage1-step0")
    hub_server.tags[OLMO] = {"stage1-step1000": "a" * 40, "stage1-step0": "b" * 40}
    catalog = hub_catalog(OLMO, run="olmo", hub=Hub(hub_server.url))
    assert [entry.step for entry in catalog.entries] == [0, 1000]
    assert [entry.address.commit for entry in catalog.entries][1] == "a" * 40
    assert catalog.entries[0].address.commit != "b" * 40


def test_labels_that_do_not_fit_their_steps_are_reported_and_not_believed(hub_server: Any):
    hub_server.repos["allenai/OLMo-1B"] = named(
        "step20000-tokens84B", "step30000-tokens84B", "step40000-tokens84B", "step50000"
    )
    tokens = count_tokens([run_config("stage1", (0, 0, 4 << 20))])
    catalog = hub_catalog("allenai/OLMo-1B", run="olmo", tokens=tokens, hub=Hub(hub_server.url))
    assert [entry.tokens for entry in catalog.entries] == [
        step * (4 << 20) for step in (20_000, 30_000, 40_000, 50_000)
    ]
    assert catalog.notes == (
        "2 token labels do not fit their steps, first step30000-tokens84B, whose step makes"
        " 125,829,120,000 tokens",
    )


def test_the_cache_answers_when_nobody_may_be_asked(hub_cache: Callable[..., Path]):
    cache = hub_cache(OLMO, named("stage1-step1000", "stage2-ingredient1-step1000", "main"))
    catalog = hub_catalog(OLMO, run="olmo", hub=Hub(cache=cache, local_only=True))
    assert [entry.stage for entry in catalog.entries] == ["stage1", "stage2-ingredient1"]
    assert [item.name for item in catalog.unknown] == ["main"]
    snapshot = catalog.entries[0].address.snapshot
    assert (snapshot / "model.safetensors").read_bytes() == b"stage1-step1000"
    assert catalog.notes == ()


def test_what_the_cache_names_but_does_not_hold_is_reported(hub_cache: Callable[..., Path]):
    cache = hub_cache(OLMO, named("stage1-step1000"))
    refs = cache / "models--allenai--Olmo-3-1125-32B" / "refs"
    (refs / "stage1-step2000").write_text("c" * 40)
    # A folder that is there, and no snapshot.
    (refs / "stage1-step3000").write_text("../blobs")
    catalog = hub_catalog(OLMO, run="olmo", hub=Hub(cache=cache, local_only=True))
    assert [entry.step for entry in catalog.entries] == [1000]
    assert catalog.notes == (
        "the cache names 2 revisions of allenai/Olmo-3-1125-32B that it does not hold,"
        " stage1-step2000 first",
    )


# --- local folders


def test_local_checkpoints_of_every_layout_are_listed(tmp_path: Path):
    make_hf(tmp_path / "stage1-step10")
    make_core(tmp_path / "step20")
    make_core(tmp_path / "stage2" / "step5")
    make_core(tmp_path / "stage2" / "ingredient2" / "step7")
    (tmp_path / "step30-unsharded").mkdir()
    (tmp_path / "step30-unsharded" / "config.yaml").write_text("")
    (tmp_path / "notes").mkdir()
    (tmp_path / "step40").mkdir()
    (tmp_path / "step50.part").mkdir()
    (tmp_path / "README.md").write_text("")
    tokens = count_tokens([run_config("stage1", (0, 0, 100)), run_config("stage2", (0, 0, 7))])
    catalog = local_catalog(tmp_path, "toy", tokens=tokens)
    found = [(e.stage, e.step, e.kind, e.tokens, e.suffix, e.address) for e in catalog.entries]
    assert found == [
        ("stage1", 10, "hf", 1000, "", tmp_path / "stage1-step10"),
        ("stage1", 20, "olmo-core", 2000, "", tmp_path / "step20"),
        ("stage1", 30, "olmo", 3000, "unsharded", tmp_path / "step30-unsharded"),
        ("stage2", 5, "olmo-core", 35, "", tmp_path / "stage2" / "step5"),
        ("stage2-ingredient2", 7, "olmo-core", 49, "", tmp_path / "stage2/ingredient2/step7"),
    ]
    assert [item.name for item in catalog.unknown] == ["notes", "step40"]
    assert catalog.notes == ("1 folders are named as checkpoints and hold none, step40 first",)


def test_a_local_folder_that_is_none_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no folder of checkpoints"):
        local_catalog(tmp_path / "absent", "toy")


# --- one checkpoint of a catalog


@pytest.fixture
def catalog(hub_server: Any) -> Catalog:
    hub_server.repos[OLMO] = named(
        "stage1-step0",
        "stage1-step1000",
        "stage1-step2000",
        "stage2-ingredient1-step1000",
        "stage2-step5-mix-a",
        "stage2-step5-mix-b",
        "stage2-step6",
        "stage2-step6-mix-a",
        "stage2-step7-mix-a",
        "main",
    )
    return hub_catalog(OLMO, run="olmo3-32b", hub=Hub(hub_server.url))


@pytest.mark.parametrize(
    ("stage", "step", "name"),
    [
        ("stage1", 0, "stage1-step0"),
        ("stage2-ingredient1", 1000, "stage2-ingredient1-step1000"),
        ("stage2", 6, "stage2-step6"),
        ("stage2", 7, "stage2-step7-mix-a"),
    ],
)
def test_a_revision_is_found_by_stage_and_step(catalog: Catalog, stage: str, step: int, name: str):
    assert resolve_revision(catalog, stage, step).name == name


@pytest.mark.parametrize(
    ("stage", "step", "line"),
    [
        (
            "stage1",
            1500,
            "step: run olmo3-32b has no checkpoint stage1-step1500; got 1500;"
            " the nearest: stage1-step1000 and stage1-step2000",
        ),
        (
            "stage1",
            9000,
            "step: run olmo3-32b has no checkpoint stage1-step9000; got 9000;"
            " the nearest: stage1-step2000",
        ),
        (
            "stage2-ingredient1",
            1,
            "step: run olmo3-32b has no checkpoint stage2-ingredient1-step1; got 1;"
            " the nearest: stage2-ingredient1-step1000",
        ),
        (
            "stage4",
            1000,
            "stage: run olmo3-32b has no checkpoint stage4-step1000; got stage4;"
            " choose from stage1, stage2, stage2-ingredient1",
        ),
        (
            "stage2",
            5,
            "step: run olmo3-32b has 2 checkpoints stage2-step5;"
            " got stage2-step5-mix-a, stage2-step5-mix-b; name one of them",
        ),
    ],
)
def test_a_revision_that_is_not_there_is_one_clear_line(
    catalog: Catalog, stage: str, step: int, line: str
):
    with pytest.raises(ConfigError) as refused:
        resolve_revision(catalog, stage, step)
    assert str(refused.value) == line


def test_nothing_is_found_in_an_empty_catalog():
    with pytest.raises(ConfigError, match="the catalog is empty"):
        resolve_revision(Catalog("toy", ()), "stage1", 0)


def test_two_names_of_one_checkpoint_are_reported(hub_server: Any):
    hub_server.repos[OLMO] = named("step1000", "step1000-tokens4B", "stage1-step1000")
    catalog = hub_catalog(OLMO, run="olmo", hub=Hub(hub_server.url))
    assert catalog.notes == (
        "stage1-step1000 and step1000 and step1000-tokens4B claim to be the same checkpoint,"
        " stage1-step1000",
    )
    with pytest.raises(ConfigError, match="has 3 checkpoints"):
        resolve_revision(catalog, "stage1", 1000)


def test_the_hubs_client_is_not_imported_before_it_is_needed():
    modules = ("audit", "catalogs", "core_csv", "folder", "hub", "trainer_state", "weights")
    code = "".join(f"import windows.checkpoints.{name}\n" for name in modules) + (
        "import sys\nassert not {'huggingface_hub', 'httpx', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

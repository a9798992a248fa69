"""Tables as published: their columns and figures are those of the authors' own files."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from windows.checkpoints.catalogs import count_tokens, resolve_revision
from windows.checkpoints.core_csv import csv_catalog
from windows.errors import DataError
from windows.run import RunConfig, StepMapEntry, TokenizerFields

HOST = "https://olmo-checkpoints.org/ai2-llm"


def stage_run(stage: str, batch_tokens: int) -> RunConfig:
    return RunConfig(
        name="run",
        stage=stage,
        sequence_length=8192,
        seed=0,
        step_map=(StepMapEntry(first_step=0, first_batch=0, batch_tokens=batch_tokens),),
        tokenizer=TokenizerFields(vocab_size=10, eos_id=0, pad_id=1),
    )


def table(path: Path, header: str, rows: Iterable[tuple[object, ...]]) -> Path:
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


WITH_TOKENS = "Stage,Step,Tokens Seen,Checkpoint Directory"

# OLMo Hybrid 7B: right in every row, stages counting on from one another.
HYBRID = [
    (stage, step, tokens, f"{HOST}/Olmo-Hybrid-7B/{folder}/")
    for stage, step, tokens, folder in [
        ("stage1_pretraining", 0, 0, "stage1/step0"),
        ("stage1_pretraining", 1413500, 5928648704000, "stage1/step1413500"),
        ("stage1_pretraining", 1414078, 5931073011712, "stage1/step1414078"),
        ("stage2_midtraining_ingredient1", 1000, 5935267315712, "stage2/step1000"),
        ("stage2_midtraining_ingredient1", 23842, 6031073607680, "stage2/step23842"),
        ("stage2_midtraining_ingredient2", 23842, 6031073607680, "stage2/ingredient2-step23842"),
        ("stage2_midtraining_souped", 23842, 6131074203648, "stage2/ingredient1+2-step23842"),
        ("stage3_longcontext", 1000, 6135268507648, "stage3/step1000"),
        ("stage3_longcontext", 23842, 6231074799616, "stage3/step23842"),
    ]
]
HYBRID_TOKENS = count_tokens([stage_run(f"stage{n}", 4 << 20) for n in (1, 2, 3)])


def test_a_right_table_is_taken_as_it_is(tmp_path: Path):
    path = table(tmp_path / "hybrid.csv", WITH_TOKENS, HYBRID)
    catalog = csv_catalog(path, "hybrid", tokens=HYBRID_TOKENS)
    assert catalog.notes == ()
    assert [(e.stage, e.step, e.tokens, e.suffix) for e in catalog.entries] == [
        ("stage1", 0, 0, ""),
        ("stage1", 1413500, 1413500 << 22, ""),
        ("stage1", 1414078, 1414078 << 22, ""),
        ("stage2", 23842, None, "souped"),
        ("stage2-ingredient1", 1000, 1000 << 22, ""),
        ("stage2-ingredient1", 23842, 23842 << 22, ""),
        ("stage2-ingredient2", 23842, 23842 << 22, ""),
        ("stage3", 1000, 1000 << 22, ""),
        ("stage3", 23842, 23842 << 22, ""),
    ]
    entry = resolve_revision(catalog, "stage2-ingredient2", 23842)
    assert entry.address == f"{HOST}/Olmo-Hybrid-7B/stage2/ingredient2-step23842"
    assert entry.kind == "olmo-core"


def test_rows_one_interval_low_are_corrected_and_reported(tmp_path: Path):
    # OLMo 3 7B: stage-2 step1000 has the token count of the end of stage 1, and so on.
    end, batch = 1_413_814 << 22, 2 << 20
    steps = [*range(1000, 48_000, 1000), 47_684]
    rows = [("stage1_pretraining", s, s << 22, f"{HOST}/s1/step{s}") for s in (0, 1000, 1_413_814)]
    rows += [
        ("stage2_midtraining", s, end + (s - 1000) * batch, f"{HOST}/s2/step{s}/") for s in steps
    ]
    tokens = count_tokens([stage_run("stage1", 4 << 20), stage_run("stage2", batch)])
    path = table(tmp_path / "7b.csv", WITH_TOKENS, rows)
    catalog = csv_catalog(path, "olmo3-7b", tokens=tokens)
    assert catalog.notes == (
        "stage2: Tokens Seen is wrong in 48 of 48 rows, by -2,097,152,000; first stage2-step1000,"
        " which says 5,929,965,715,456 where its step makes 5,932,062,867,456; tokens are computed"
        " from steps",
    )
    assert resolve_revision(catalog, "stage2", 47_684).tokens == 47_684 * batch


def test_a_wrong_beginning_of_a_stage_is_reported(tmp_path: Path):
    # OLMo 3 32B: stage 2 began with step656000, and its rows count on from step679000.
    one, two = 8 << 20, 4 << 20
    rows = [("stage1_pretraining", s, s * one, f"{HOST}/step{s}") for s in (656_000, 679_000)]
    rows += [
        (f"stage2_midtraining_ingredient{i}", s, 679_000 * one + s * two, f"{HOST}/i{i}/step{s}")
        for i in (1, 2)
        for s in (1000, 23_842)
    ]
    tokens = count_tokens([stage_run("stage1", one), stage_run("stage2", two)])
    path = table(tmp_path / "32b.csv", WITH_TOKENS, rows)
    assert csv_catalog(path, "olmo3-32b", tokens=tokens).notes == ()
    begun = {"stage2": 656_000 * one}
    notes = csv_catalog(path, "olmo3-32b", tokens=tokens, starts=begun).notes
    assert len(notes) == 2
    assert all("wrong in 2 of 2 rows, by +192,937,984,000" in note for note in notes)


def test_single_wrong_rows_are_counted(tmp_path: Path):
    rows = [("stage1", s, s * 100 + off, f"{HOST}/step{s}") for s, off in
            [(0, 0), (10, 5), (20, 0), (30, -7), (40, 0)]]  # fmt: skip
    tokens = count_tokens([stage_run("stage1", 8192)])
    scaled = [(a, s, c if c % 100 else s * 8192, d) for a, s, c, d in rows]
    path = table(tmp_path / "a.csv", WITH_TOKENS, scaled)
    (note,) = csv_catalog(path, "toy", tokens=tokens).notes
    assert note.startswith("stage1: Tokens Seen is wrong in 2 of 5 rows, by")
    assert "first stage1-step10, which says 1,005 where its step makes 81,920" in note


def test_tokens_are_not_checked_without_a_step_map(tmp_path: Path):
    path = table(tmp_path / "hybrid.csv", WITH_TOKENS, HYBRID)
    tokens = count_tokens([stage_run("stage1", 4 << 20)])
    catalog = csv_catalog(path, "hybrid", tokens=tokens)
    assert [note.partition(":")[0] for note in catalog.notes] == [
        "stage2-ingredient1",
        "stage2-ingredient2",
        "stage3",
    ]
    assert all("no step map" in note for note in catalog.notes)
    assert [entry.tokens for entry in catalog.entries if entry.stage != "stage1"] == [None] * 6


def test_a_table_without_stages_or_tokens_is_read(tmp_path: Path):
    # OLMo 2 32B, stage 1; step200000 stands there twice.
    rows = [(s, f"{HOST}/peteish32/step{s}/") for s in (0, 5001, 200_000, 200_000, 721_901)]
    path = table(tmp_path / "a.csv", "Step,Checkpoint Directory", rows)
    catalog = csv_catalog(path, "olmo2-32b")
    assert [(e.stage, e.step) for e in catalog.entries] == [
        ("stage1", 0),
        ("stage1", 5001),
        ("stage1", 200_000),
        ("stage1", 721_901),
    ]
    assert catalog.notes == ("1 rows say what one before them says, first line 5",)


def test_a_table_of_ingredients_is_read(tmp_path: Path):
    # OLMo 2 32B, stage 2.
    folder = f"{HOST}/peteish32/stage2"
    rows = [
        (1, 1000, f"{folder}/olmo-32b-0325_stage2_ingredient1/step1000/"),
        (3, 35763, f"{folder}/olmo-32b-0325_stage2_ingredient3/step35763/"),
        ("soup", 11921, f"{folder}/soup/step11921-unsharded/"),
    ]
    path = table(tmp_path / "a.csv", "Ingredient,Step,Checkpoint Directory", rows)
    tokens = count_tokens([stage_run("stage2", 8 << 20)])
    found = csv_catalog(path, "olmo2-32b", tokens=tokens).entries
    assert [(e.name, e.stage, e.kind, e.tokens) for e in found] == [
        ("stage2-step11921-souped", "stage2", "olmo", None),
        ("stage2-ingredient1-step1000", "stage2-ingredient1", "olmo-core", 1000 << 23),
        ("stage2-ingredient3-step35763", "stage2-ingredient3", "olmo-core", 35763 << 23),
    ]


def test_a_directory_named_by_another_step_is_reported(tmp_path: Path):
    # OLMo 1.7 7B.
    rows = [
        (477000, f"{HOST}/olmo-medium/0rdfxd6d/step477000-unsharded/"),
        (489000, f"{HOST}/olmo-annealing/yu3ctnnk/step12000-unsharded/"),
    ]
    path = table(tmp_path / "a.csv", "Step,Checkpoint Directory", rows)
    assert csv_catalog(path, "olmo17").notes == (
        "1 directories are named by another step, first stage1-step489000 in"
        f" {HOST}/olmo-annealing/yu3ctnnk/step12000-unsharded",
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no column 'step'"),
        ("Stage,Checkpoint Directory\n", "no column 'step'"),
        ('"Step\nsize",b\n1,2\n', "no column 'step'; got step size, b"),
        ("Step,Tokens Seen\n1,2\n", "no column 'checkpoint directory'"),
        ("Step,Checkpoint Directory\nx,https://a/step1\n", r"a\.csv:2: not a number of steps"),
        ("Step,Checkpoint Directory\n1,https://a\n²,https://b\n", r"a\.csv:3: not a number of st"),
        (f"Step,Checkpoint Directory\n{'9' * 5000},https://b\n", "not a number of steps"),
        ("Step,Checkpoint Directory\n5\n", r"a\.csv:2: a checkpoint without a directory"),
        (f"{WITH_TOKENS}\nstage1,5,many,https://a\n", "not a number of tokens"),
        ('Step,Checkpoint Directory\n1,"https://a\n', "not a table of checkpoints"),
        (b"Step,Checkpoint Directory\n\xff\xfe,\x00", "not a table of checkpoints"),
    ],
)
def test_a_damaged_table_is_refused_in_one_line(tmp_path: Path, text: str | bytes, fault: str):
    (tmp_path / "a.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=fault) as refused:
        csv_catalog(tmp_path / "a.csv", "toy")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_a_table_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="the table cannot be read"):
        csv_catalog(tmp_path / "absent.csv", "toy")


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfStep,Checkpoint Directory\r\n7,https://a/step7\r\n\r\n")
    assert [entry.step for entry in csv_catalog(path, "toy").entries] == [7]

"""A whole study's report, simulated from a seed: numbers of the size real studies have."""

from dataclasses import replace

import numpy as np
import pytest

from curate.report.data import (
    ArmCurve,
    Arms,
    ArmSummary,
    Endpoint,
    Label,
    Loss,
    Mixture,
    Mixtures,
    Provenance,
    ReportData,
    Rule,
    Series,
    Study,
    Transfer,
    TransferPoint,
    Truth,
    TruthPoint,
    Verdict,
    Window,
)

MODES = ("successive/addition", "repetitive/addition")
CONTROL = "normal/addition"
ARMS = {
    "control-generalization": 0.5,
    "uncontrolled": 0.0,
    "placebo": 0.03,
    "control-pattern": -0.45,
}
FIRST, EVERY, WINDOWS = 340, 16, 40
STEPS = tuple(range(FIRST, FIRST + EVERY * WINDOWS + 1, EVERY))
RULE = Rule(
    name="innovation",
    words="A window is labelled by how far the score after it lies from what the score before it "
    "predicts.",
    alpha=0.05,
    minimum=0.05,
    version=1,
)


def floats(values):
    return tuple(float(value) for value in values)


def series(rng, task, composition):
    level, levels = 0.3, [0.3]
    for pull in composition:
        level = float(np.clip(0.6 * level + 0.22 * pull + rng.normal(0, 0.1), -0.9, 0.9))
        levels.append(level)
    mean = np.array(levels)
    return Series(
        task=task,
        steps=STEPS,
        tokens=tuple(step * 2048 for step in STEPS),
        mean=floats(mean),
        lo=floats(mean - 0.07),
        hi=floats(mean + 0.07),
        hard=floats((mean + 1) / 2),
    )


def control_series(rng):
    mean = np.clip(0.94 + rng.normal(0, 0.02, len(STEPS)), 0, 1)
    columns = {"mean": mean, "lo": mean - 0.03, "hi": np.minimum(mean + 0.03, 1), "hard": mean}
    return Series(
        task=CONTROL,
        steps=STEPS,
        tokens=tuple(step * 2048 for step in STEPS),
        measure="hard",
        control=True,
        **{name: floats(column) for name, column in columns.items()},
    )


def label(rng, task, before, after):
    if abs(after - before) < 0.02:
        before = float("nan")  # a statistic that could not be computed: never to be shown
    innovation = after - 0.6 * before
    name = "undecided"
    if abs(innovation) > 0.16:
        name = "generalization" if innovation > 0 else "pattern"
    elif abs(innovation) < 0.05:
        name = "neutral"
    return Label(
        task=task,
        label=name,
        delta=after - before,
        innovation=innovation,
        se=0.05,
        lo=innovation - 0.1,
        hi=innovation + 0.1,
        p=float(np.exp(-20 * abs(innovation))),
        q=float(min(1, 2 * np.exp(-20 * abs(innovation)))),
        strength=innovation,
        hop=abs(after - before) > 0.3,
    )


def windows(rng, modes):
    rows = []
    for index in range(WINDOWS):
        first, end = STEPS[index], STEPS[index + 1]
        labels = tuple(label(rng, s.task, s.mean[index], s.mean[index + 1]) for s in modes)
        pooled = replace(labels[0], task="pooled")
        rows.append(
            Window(
                name=f"stage1-{first}:{end}",
                first_step=first,
                end_step=end,
                first_batch=first,
                end_batch=end,
                tokens=EVERY * 2048,
                labels=(*labels, pooled),
                held=(EVERY * 24 + index, EVERY * 8 - index),
            )
        )
    return tuple(rows)


def transfer(rng, rows, planted):
    points = []
    for row in rows:
        on = row.on(MODES[0])
        pull = np.nan_to_num(on.strength) if planted else rng.normal(0, 0.1)
        shuffles = pull + rng.normal(0, 0.05, 2)
        points.append(
            TransferPoint(
                window=row.name,
                label=on.label,
                strength=on.strength,
                effect=float(shuffles.mean()),
                per_shuffle=floats(shuffles),
            )
        )
    outcome = (
        ("transferable", 0.76, 0.62, (0.58, 0.87), 0.0001, 0.93)
        if planted
        else ("not-transferable", 0.08, -0.19, (-0.24, 0.38), 0.31, 0.28)
    )
    verdict, rho, lower_bound, (lo, hi), p, reliability = outcome
    return Transfer(
        verdict=verdict,
        rho=rho,
        lo=lo,
        hi=hi,
        p=p,
        lower_bound=lower_bound,
        mean_effect=0.012,
        sign_agreement=0.8 if planted else 0.525,
        windows=WINDOWS,
        shuffles=2,
        reliability=reliability,
        sentence=f"Over {WINDOWS} windows, label strength and the mean effect of two shuffled "
        f"replays correlate at {rho} (one-sided 95 % lower bound {lower_bound}; needed: above "
        "0.30).",
        points=tuple(points),
        checkpoint="stage1-step660",
    )


def arms(rng, planted):
    curves, summaries = [], []
    steps = tuple(range(0, 161, 16))
    for arm, target in ARMS.items():
        aim = target if planted else 0.02
        spread = 0.1 if planted and arm.startswith("control") else 0.28
        found = []
        for seed in range(5):
            soft = aim + (0.1 - aim) * 0.4 ** np.arange(11) + rng.normal(0, spread, 11)
            soft[0] = 0.1
            control = np.clip(0.94 + rng.normal(0, 0.015, 11), 0, 1)
            found.append(soft[1:])
            curves.append(
                ArmCurve(
                    arm=arm,
                    seed=seed,
                    steps=steps,
                    soft=floats(np.clip(soft, -0.95, 0.95)),
                    control=floats(control),
                )
            )
        mean = float(np.mean(found))
        summaries.append(
            ArmSummary(
                arm=arm,
                runs=5,
                mean_soft=mean,
                lo=mean - spread / 2,
                hi=mean + spread / 2,
                within_sd=float(np.std(found, axis=1).mean()),
                switches=0.2 if spread < 0.2 else 2.0,
                control=0.94,
                loss=float(2.1 + rng.normal(0, 0.01)),
            )
        )
    return Arms(
        base="stage1-step660",
        base_step=660,
        task=MODES[0],
        base_soft=0.1,
        base_control=0.94,
        base_loss=2.13,
        curves=tuple(curves),
        summaries=tuple(summaries),
    )


def endpoint(name, arm, reference, difference, p, p_holm=None):
    direction = "below" if name != "mean_soft" or difference < 0 else "above"
    return Endpoint(
        endpoint=name,
        arm=arm,
        reference=reference,
        difference=difference,
        lo=difference - 0.15,
        hi=difference + 0.15,
        effect_size=difference / 0.15,
        p=p,
        p_holm=p_holm,
        direction=direction,
    )


def verdict(planted):
    generalization, pattern = "control-generalization", "control-pattern"
    size = 0.95 if planted else 0.02
    p = 0.004 if planted else 0.43
    sentences = (
        (
            "Controlled: the labelled data held the mode on its side. Levels moved as labelled "
            "against uncontrolled and against placebo data.",
            "Primary: mean_soft of control-generalization minus control-pattern is +0.95 "
            "[+0.80, +1.10], one-sided exact p = 0.0040.",
            "Not shown to be below placebo: switches of control-pattern.",
            "All runs continue one checkpoint of one pre-training run: the intervals speak of "
            "other seeds, not of other pre-training runs.",
        )
        if planted
        else (
            "The labels do not transfer, so no control is claimed, whatever the arms show.",
            "Primary: mean_soft of control-generalization minus control-pattern is +0.02 "
            "[-0.13, +0.17], one-sided exact p = 0.4300.",
        )
    )
    return Verdict(
        name="controlled" if planted else "labels-do-not-transfer",
        sentences=sentences,
        primary=endpoint("mean_soft", generalization, pattern, size, p),
        secondary=tuple(
            endpoint(name, arm, reference, sign * size / 2, p, min(1, 3 * p))
            for name in ("mean_soft", "within_sd", "switches")
            for arm, sign in ((generalization, 1), (pattern, -1))
            for reference in ("uncontrolled", "placebo")
        ),
        alpha=0.05,
    )


def mixtures(rows):
    names = tuple(row.name for row in rows)
    return Mixtures(
        decontamination="Instances that hold a whole prompt of the suite, token for token, were "
        "removed (match: prompt); 2,304 prompts were looked for.",
        rows=tuple(
            Mixture(
                mixture=arm,
                seed=seed,
                windows=names if arm == "uncontrolled" else names[seed : seed + 8],
                tokens=327_680,
                instances=5_120,
                repeats=2,
                decontaminated_documents=12 + seed,
                decontaminated_instances=9 + seed,
                balance=(
                    ("mean document length", 36.2 + seed / 10),
                    ("share of planted-0", 0.52),
                    ("share of planted-1", 0.48),
                ),
            )
            for arm in ARMS
            for seed in range(5)
        ),
    )


def provenance():
    kinds = ("corpus", "run", "windows", "scores", "labels", "transfer", "mixture", "arm")
    rows, parents = [], ()
    for index, kind in enumerate(kinds):
        identity = f"{index:x}" * 64
        content = f"{15 - index:x}" * 64
        rows.append(
            Provenance(
                kind=kind, label=f"tiny-{kind}", id=identity, content=content, parents=parents
            )
        )
        parents = (identity,)
    return tuple(rows)


def truth(rows, composition, planted):
    return Truth(
        composition="log(share of break + 0.01) − log(share of succ + 0.01)",
        rho=0.68 if planted else 0.01,
        rho_previous=0.12,
        autocorrelation=0.21,
        points=tuple(
            TruthPoint(
                window=row.name,
                composition=float(pull),
                strength=row.on(MODES[0]).strength,
                label=row.on(MODES[0]).label,
            )
            for row, pull in zip(rows, composition, strict=True)
        ),
    )


def simulated(seed=0, *, planted=True, name="demo"):
    """A whole report; ``planted`` false is the negative control, whose labels do not transfer."""
    rng = np.random.default_rng(seed)
    composition = rng.normal(0, 1, WINDOWS)
    modes = [series(rng, MODES[0], composition), series(rng, MODES[1], rng.normal(0, 1, WINDOWS))]
    rows = windows(rng, modes)
    steps = tuple(range(1, STEPS[-1] + 1))
    loss = 2.05 + 2 * np.exp(-np.array(steps) / 120) + rng.normal(0, 0.008, len(steps))
    return ReportData(
        study=Study(
            name=name,
            run="tiny",
            seed=seed,
            versions=(("modehop", "0.1.0"), ("torch", "2.13.0")),
            file="demo",
        ),
        primary_task=MODES[0],
        series=(*modes, control_series(rng)),
        windows=rows,
        rule=RULE,
        loss=Loss(steps=steps, loss=floats(loss), smoothing="mean of 8 steps"),
        sources=("web", "math"),
        transfer=transfer(rng, rows, planted),
        arms=arms(rng, planted),
        verdict=verdict(planted),
        mixtures=mixtures(rows),
        truth=truth(rows, composition, planted),
        provenance=provenance(),
        wall_seconds=203.4,
    )


def simulated_long(checkpoints=680, seed=3):
    """A run of OLMo 3 32B's length: 52 series of 6 families, labels on all and pooled."""
    rng = np.random.default_rng(seed)
    steps = tuple(range(0, 1000 * checkpoints, 1000))
    families = {"successive": 14, "repetitive": 14, "flipped": 8, "intuitive": 8, "normal": 8}
    names = [f"{family}/task{i:02d}" for family, many in families.items() for i in range(many)]
    found = []
    for task in names:
        control = task.startswith("normal")
        hops = rng.choice([-0.3, 0.3], checkpoints) * (rng.random(checkpoints) < 0.05)
        mean = np.clip(0.5 * np.sin(np.cumsum(hops)) + rng.normal(0, 0.03, checkpoints), -1, 1)
        mean = np.full(checkpoints, 0.9) if control else mean
        found.append(
            Series(
                task=task,
                steps=steps,
                tokens=tuple(step * 8_388_608 for step in steps),
                mean=floats(mean),
                lo=floats(mean - 0.05),
                hi=floats(mean + 0.05),
                hard=floats((mean + 1) / 2),
                measure="hard" if control else "soft",
                control=control,
            )
        )
    rows = []
    for index in range(checkpoints - 1):
        first, end = steps[index], steps[index + 1]
        labels = [label(rng, s.task, s.mean[index], s.mean[index + 1]) for s in found]
        rows.append(
            Window(
                name=f"stage1-{first}:{end}",
                first_step=first,
                end_step=end,
                first_batch=first,
                end_batch=end,
                tokens=1000 * 8_388_608,
                labels=(*labels, replace(labels[0], task="pooled")),
                held=tuple(rng.integers(0, 9999, 12).tolist()),
            )
        )
    return ReportData(
        study=Study(name="long", run="olmo3-32b", seed=0, file="long.yaml"),
        primary_task=names[0],
        series=tuple(found),
        windows=tuple(rows),
        rule=RULE,
        sources=tuple(f"source{i}" for i in range(12)),
    )


@pytest.fixture(scope="session")
def long_run():
    return simulated_long()


@pytest.fixture(scope="session")
def shorter_run():
    """As many tasks, but fewer checkpoints."""
    return simulated_long(checkpoints=15)


@pytest.fixture(scope="session")
def planted():
    return simulated()


@pytest.fixture(scope="session")
def unplanted():
    return simulated(planted=False, name="demo-iid")


@pytest.fixture(scope="session")
def labels_only(planted):
    return replace(
        planted,
        transfer=None,
        arms=None,
        verdict=None,
        mixtures=None,
        truth=None,
        provenance=(),
        loss=None,
        wall_seconds=None,
    )


@pytest.fixture(scope="session")
def with_control(planted):
    """The normal control labelled as well, here by what the first mode's labels are called."""
    rows = tuple(
        replace(row, labels=(*row.labels, replace(row.labels[0], task=CONTROL)))
        for row in planted.windows
    )
    return replace(planted, windows=rows)

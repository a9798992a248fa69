"""Intuitive answer: the cognitive-reflection problems, whose first answer to mind is wrong.

Each of the three problems (Frederick 2005, Journal of Economic Perspectives 19: 25) is told of
fifty scenes, with twenty sets of numbers each: 1,000 variants. Nothing is shown before a question,
so there are no demonstrations to draw: a demo seed takes a scene instead, which is the cluster of
inference. The splits share no scene.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice, product

from scoring.suite.examples import Templates, names, seeded
from scoring.suite.schema import SPLITS, Block, Item, Split
from scoring.suite.task import Task
from windows.errors import ConfigError

FAMILY = "intuitive_answer"
VARIANTS = 20
"""Sets of numbers per scene."""

TERMINATOR = "\n"

Scene = tuple[str, ...]
Numbers = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """One problem: what a template is filled with, the right and the intuitive answer."""

    fields: tuple[str, ...]
    right: str
    wrong: str


@dataclass(frozen=True, eq=False)
class Problem:
    """What one task is made of.

    Attributes
    ----------
    name, description
        As of the task.
    templates
        Its prompts.
    scenes
        What it is told of.
    numbers
        What a scene is told with: all sets of numbers that may be drawn.
    tell
        Makes a variant of a scene and its numbers.
    """

    name: str
    description: str
    templates: Templates
    scenes: tuple[Scene, ...]
    numbers: Callable[[Scene], list[Numbers]]
    tell: Callable[[Scene, Numbers], Variant]


def scenes(problem: Problem, split: Split) -> list[Scene]:
    """Return the scenes of a split in the order in which demo seeds take them."""
    own = problem.scenes[SPLITS.index(split) :: len(SPLITS)]
    order = seeded(FAMILY, problem.name, split).permutation(len(own))
    return [own[index] for index in order]


@cache
def variants(problem: Problem, scene: Scene) -> tuple[Variant, ...]:
    """Draw the variants of a scene, none of whose intuitive answers is right.

    Right and intuitive answer are equally long: the longer would be the less likely one, and where
    they differ by a factor of ten one could be taken for the other in another unit.
    """
    numbers = problem.numbers(scene)
    order = seeded(FAMILY, problem.name, *scene).permutation(len(numbers))
    told = (problem.tell(scene, numbers[index]) for index in order)
    fair = (v for v in told if v.right != v.wrong and len(v.right) == len(v.wrong))
    return tuple(islice(fair, VARIANTS))


def _build(problem: Problem, split: Split, wording: str, demo_seed: int) -> Block:
    own = scenes(problem, split)
    if not 0 <= demo_seed < len(own):
        raise ConfigError(
            "there are not so many scenes, of which every demo seed takes one",
            where="suite.demo_seeds",
            got=f"demo seed {demo_seed} of {FAMILY}/{problem.name}",
            do=f"ask for at most {len(own)} demo seeds",
        )
    template = problem.templates[split][wording]
    return Block(
        family=FAMILY,
        task=problem.name,
        wording=wording,
        split=split,
        demo_seed=demo_seed,
        prefix="",
        items=tuple(_item(template, variant) for variant in variants(problem, own[demo_seed])),
        terminator=TERMINATOR,
    )


def _draws(problem: Problem, split: Split) -> int:
    return len(scenes(problem, split))


def _item(template: str, variant: Variant) -> Item:
    right, wrong = (f" {answer}{TERMINATOR}" for answer in (variant.right, variant.wrong))
    return Item.of(template.format(*variant.fields), right, [wrong])


def _scenes(text: str) -> tuple[Scene, ...]:
    listed = " ".join(text.split()).split("; ")
    return tuple(tuple(scene.split(", ")) for scene in listed)


_CHEAP = _scenes("""
bat, ball; pen, eraser; sandwich, biscuit; notebook, pencil; coffee, doughnut; mug, teaspoon;
candle, match; salad, roll; magazine, postcard; scarf, button; toy car, sticker; juice, straw;
loaf, egg; hammer, nail; rose, ribbon; kite, marble; bowl, lid; torch, battery; parcel, label;
book, bookmark; melon, lemon; cake, cherry; soup, olive; plate, napkin; brush, comb
""")
_DEAR = _scenes("""
laptop, mouse; sofa, cushion; camera, strap; bicycle, helmet; piano, stool; boat, oar;
tent, lantern; guitar, tuner; television, antenna; saddle, bridle; desk, lamp; necklace, clasp;
telescope, tripod; oven, tray; canoe, paddle; printer, cable; wardrobe, mirror; carpet, doormat;
motorcycle, jacket; tractor, chain; drone, charger; violin, bow; bed, blanket; suit, tie;
freezer, thermometer
""")


def _price_numbers(scene: Scene) -> list[Numbers]:
    """Return differences and prices of the cheaper thing, in cents or in dollars."""
    if scene in _CHEAP:
        return list(product(range(100, 1000, 100), range(1, 50)))
    return list(product(range(1000, 10000, 1000), range(10, 500, 5)))


def _tell_price(scene: Scene, numbers: Numbers) -> Variant:
    dear, cheap = scene
    difference, right = numbers
    money = _cents if scene in _CHEAP else _dollars
    first, second = map(_a, scene)
    fields = (first, dear, second, cheap, money(difference + 2 * right), money(difference))
    return Variant((_capital(first), *fields), money(right), money(2 * right))


def _a(thing: str) -> str:
    return f"an {thing}" if thing[0] in "aeio" else f"a {thing}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _cents(amount: int) -> str:
    return f"${amount // 100}.{amount % 100:02}"


def _dollars(amount: int) -> str:
    return f"${amount:,}"


_MACHINES = _scenes("""
machines, minute, make, widgets; cats, minute, catch, mice; printers, minute, print, posters;
bakers, hour, bake, cakes; robots, hour, assemble, radios; painters, day, paint, rooms;
looms, hour, weave, rugs; tailors, day, sew, coats; ovens, minute, heat, pizzas;
masons, day, build, chimneys; gardeners, hour, plant, hedges; presses, minute, stamp, medals;
potters, hour, shape, vases; carpenters, day, make, tables; cleaners, hour, clean, flats;
scribes, day, copy, books; kilns, hour, fire, statues; drills, minute, drill, wells;
farmers, day, plough, fields; pumps, hour, empty, tanks; barbers, minute, cut, beards;
cooks, minute, cook, omelettes; smiths, hour, forge, swords; mechanics, hour, repair, engines;
welders, minute, weld, frames; editors, day, edit, chapters; nurses, minute, test, patients;
clerks, minute, sort, files; scanners, minute, scan, albums; knitters, day, knit, blankets;
jewellers, day, polish, rubies; divers, hour, raise, anchors; copiers, minute, copy, reports;
students, hour, solve, puzzles; guides, hour, lead, tours; florists, minute, tie, bouquets;
coopers, day, make, barrels; glaziers, hour, fit, windows; brewers, day, brew, kegs;
roofers, day, tile, roofs; shepherds, hour, shear, sheep; cobblers, hour, mend, boots;
tutors, minute, mark, essays; cranes, minute, load, trucks; sculptors, day, carve, busts;
lathes, minute, turn, bowls; chemists, hour, analyse, samples; saws, minute, cut, beams;
weavers, day, weave, baskets; locksmiths, minute, open, safes
""")


def _machine_numbers(scene: Scene) -> list[Numbers]:
    """Return the numbers of workers of whom it is told, and of whom it is asked."""
    return list(product(range(2, 100), repeat=2))


def _tell_machines(scene: Scene, numbers: Numbers) -> Variant:
    told, asked = map(str, numbers)
    return Variant((*scene, told, asked), told, asked)


_GROWTHS = _scenes("""
a patch of lily pads, lake, day; a carpet of duckweed, pond, day; a film of algae, pool, hour;
a patch of moss, roof, week; a spot of mould, loaf, hour; a stain of rust, gate, month;
a colony of bacteria, dish, minute; a patch of ivy, wall, month; a tangle of weeds, field, week;
a sheet of ice, river, hour; a patch of lichen, rock, year; a growth of fungus, trunk, week;
a patch of mildew, ceiling, day; a patch of clover, lawn, week; a drift of daisies, meadow, week;
a thicket of brambles, hillside, month; a bed of reeds, marsh, month;
a patch of seaweed, reef, week; a colony of mussels, pier, month;
a layer of frost, window, minute; a slick of oil, harbour, hour; a stand of bamboo, island, year;
a patch of nettles, orchard, week; a growth of gorse, valley, month;
a colony of corals, lagoon, year; a spread of heather, moor, year; a growth of ferns, terrace, week;
a cluster of barnacles, hull, week; a patch of thistles, pasture, week;
a crust of salt, basin, day; a patch of dandelions, park, week; a web of bindweed, hedge, day;
a film of yeast, vat, hour; a patch of mint, garden, week; a film of slime, beach, hour;
a sheet of dust, shelf, week; a blot of ink, page, second; a wave of poppies, plain, week;
a patch of vines, fence, month; a bloom of plankton, reservoir, day;
a swarm of jellyfish, bay, day; a growth of crystals, plate, minute; a patch of cress, tray, day;
a mass of hyacinths, canal, day; a pool of water, floor, minute; a film of mist, mirror, second;
a layer of sand, courtyard, week; a crop of mushrooms, cellar floor, day;
a growth of thyme, cliff, month; a puddle of lava, crater, hour
""")
_SHARES = {2: ("doubles", "half"), 3: ("triples", "a third"), 4: ("quadruples", "a quarter")}


def _growth_numbers(scene: Scene) -> list[Numbers]:
    """Return how often it grows until all is covered, and by which factor."""
    return [(times, factor) for factor in _SHARES for times in range(factor, 100, factor)]


def _tell_growth(scene: Scene, numbers: Numbers) -> Variant:
    times, factor = numbers
    cover, place, unit = scene
    fields = (_capital(cover), cover, _a(place), place, unit, *_SHARES[factor], str(times))
    return Variant(fields, str(times - 1), str(times // factor))


PROBLEMS = (
    Problem(
        "crt_price",
        "two things cost a sum and one costs more; intuition takes the sum less the difference",
        {
            "label": {
                "total": "Q: {0} and {3} cost {5} in total. The {2} costs {6} more than the {4}."
                " How much does the {4} cost?\nA:",
                "dearer": "Question: {0} and {3} cost {5} together. The {2} is {6} dearer than the"
                " {4}. What is the price of the {4}?\nAnswer:",
            },
            "verify": {
                "bill": "Problem: Someone who buys {1} and {3} pays {5}. For the {2} one pays {6}"
                " more than for the {4}. How much does one pay for the {4}?\nSolution:"
            },
        },
        _CHEAP + _DEAR,
        _price_numbers,
        _tell_price,
    ),
    Problem(
        "crt_machines",
        "so many machines take so long for so many widgets; intuition keeps the numbers equal",
        {
            "label": {
                "takes": "Q: If it takes {4} {0} {4} {1}s to {2} {4} {3}, how many {1}s does it"
                " take {5} {0} to {2} {5} {3}?\nA:",
                "rate": "Question: {4} {0} {2} {4} {3} in {4} {1}s. At this rate, in how many {1}s"
                " do {5} {0} {2} {5} {3}?\nAnswer:",
            },
            "verify": {
                "need": "Problem: To {2} {4} {3}, {4} {0} need {4} {1}s. How many {1}s do {5} {0}"
                " need to {2} {5} {3}?\nSolution:"
            },
        },
        _MACHINES,
        _machine_numbers,
        _tell_machines,
    ),
    Problem(
        "crt_growth",
        "a patch doubles until it covers a lake; intuition takes half of the time for half of it",
        {
            "label": {
                "patch": "Q: {0} spreads over {2}. Every {4}, it {5} in size. It takes {7} {4}s to"
                " cover the whole {3}. How many {4}s does it take to cover {6} of the {3}?\nA:",
                "after": "Question: Over {2} spreads {1} that {5} in size every {4}. The whole {3}"
                " is covered after {7} {4}s. After how many {4}s is {6} of it covered?\nAnswer:",
            },
            "verify": {
                "covered": "Problem: {0} {5} in size each {4} until, after {7} {4}s, it covers the"
                " whole of {2}. How many {4}s does it need for {6} of the {3}?\nSolution:"
            },
        },
        _GROWTHS,
        _growth_numbers,
        _tell_growth,
    ),
)


TASKS: tuple[Task, ...] = tuple(
    Task(
        FAMILY,
        problem.name,
        names(problem.templates),
        problem.description,
        partial(_build, problem),
        draws=partial(_draws, problem),
    )
    for problem in PROBLEMS
)
"""One task a problem."""

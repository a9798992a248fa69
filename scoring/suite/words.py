"""Plain English words for generated questions."""

_WORDS = """
acorn actor album alley amber anchor ankle apple apron arrow artist atlas attic autumn axle almond
anvil arcade award author avenue arena
badge bakery banner barrel basket beacon beetle bench berry blanket bottle branch bridge broom
bucket butter button bishop border bonnet bullet banjo
cabin camel candle canyon carpet castle cellar chair cherry circle clock cloud coffee comet copper
cotton cradle cricket crown curtain cactus cousin
daisy dancer desert dinner doctor dollar donkey dragon drawer drum dwarf diamond ditch dolphin
doorway dozen dream dress driver duchess dagger dairy
eagle earring echo editor elbow elephant ember emerald engine envelope evening exam exit eyebrow
eagerness estate entry error essay event elder errand
fabric falcon farmer feather fence ferry fiddle finger flame flower forest fountain fox freight
friend frost funnel furnace factory fossil fever fleet
galaxy garden garlic gate giant ginger glacier glove goblet grain grape gravel guitar gully gutter
goose grocer guest guide gallop gadget gravity
hammer harbour harvest hatchet hazel helmet heron hill hollow honey hornet horse hotel hunter
hurdle hammock handle haven heather hedge hostel humour
iceberg icicle idea idol igloo image inch index infant ink insect island ivory ivy iron item
inkwell income injury inlet invoice interior
jacket jaguar jar jelly jewel jigsaw job jockey joke journal journey jug juice jungle junior jury
justice jasmine jersey jetty judge juniper
kettle key kidney kingdom kiosk kitchen kite kitten knee knife knight knot koala kennel kernel
keyboard kick kerosene karate kayak keeper keg
ladder lantern lemon letter lily linen lion lizard lobster locket lumber lagoon lamp laundry
leather ledge legend library limb locust lunch lotus
magnet mango maple marble market meadow melon mirror monkey mortar mountain muffin museum
mustard mantle mason medal menu mill mitten motor mule
napkin needle nephew nest nettle nickel niece night noodle north nostril notebook novel number
nurse nutmeg nugget nation navy necklace nursery nozzle
oak oar oasis oatmeal object ocean octopus office olive onion orange orchard organ ostrich otter
oven owl oyster onyx opera outfit outlaw
paddle palace panda paper parrot pebble pencil pepper pigeon pillow planet plum pocket potato
pumpkin puzzle parcel pasture pearl pilot piano prism
quail quarry quart quarter quartz quay queen quest question queue quill quilt quiver quiz quota
quote quality quantity quorum quirk quicksand quarrel
rabbit raccoon radish raft rainbow raisin ranch raven razor ribbon river robin rocket rooster
rope rose ruler rubber rudder reef riddle rain
saddle sailor salmon sandal scarf school seed shadow shell silver spider spoon statue storm
sugar sunset swan sword satchel signal sister stable
table tailor teapot temple thimble thistle thunder ticket tiger timber tomato tower tractor trumpet
tulip tunnel turkey turtle tavern tenant torch tribe
udder ulcer umbrella umpire uncle unicorn uniform union unit universe upland uproar upset urchin
urn usage usher utensil utility utopia update upkeep
valley vanilla vapour vase vault velvet verb vessel village vine vinegar violin visitor voice
volcano vote voucher voyage vulture verse victory vacuum
wagon waiter walnut walrus water weasel weather whale wheat wheel whistle widow willow window
winter wolf wool worm wreath wrist warden weaver
"""
WORDS = tuple(_WORDS.split())
"""22 words with each of the initials a to w."""

_PLURALS = """
anchors apples baskets bells benches boats books bottles bridges buttons cabins candles chairs
clocks clouds coins cups doors drums eggs farms feathers flowers forks gates gloves hammers hats
horses islands kettles keys kites ladders lamps lanterns letters lions maps mirrors nails needles
onions oranges paintings pears pencils pillows plates rivers rockets ropes shells ships shoes spoons
stamps stars tables tickets towers trees tunnels umbrellas violins wagons walnuts wheels windows
"""
PLURALS = tuple(_PLURALS.split())
"""Things that can be counted."""

"""The words of the simulated shop: departments, categories, their names and their attributes.

Written by hand so that queries and titles read like a shop's. Names joined by `/` mean the same; shoppers and sellers
have different favourites among them, so queries and titles use different words.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

# `# department` with its materials and kinds (audience, size), `## group` with its features, then one category a line:
# its names @ its typical price. An indented line continues the previous line.
SHOP: Final = """
# Electronics
materials: plastic, aluminium/aluminum/metal, carbon fibre/carbon, glass
kinds: compact/mini/small, portable/travel, professional/pro, for kids/children
## Audio
features: noise cancelling/anc/noise reduction, wireless/bluetooth/cordless, waterproof/water resistant/ipx7,
    with microphone/with mic, long battery life/40h playtime, bass boost/deep bass
headphones/headset/over ear phones @ 70
earbuds/in ear headphones/earphones @ 45
speaker/loudspeaker/sound box @ 80
soundbar/tv speaker/home theater bar @ 160
turntable/record player/vinyl player @ 180
## Computers
features: 16gb ram/16 gb memory, touchscreen/touch display, backlit/illuminated, ergonomic/comfort, usb c/type c,
    silent/quiet
laptop/notebook computer/ultrabook @ 750
monitor/computer screen/display @ 230
keyboard/computer keypad @ 60
mouse/pointing device @ 30
hard drive/external storage/portable disk @ 90
docking station/port hub/laptop dock @ 85
webcam/pc camera/streaming camera @ 55
## Phones & Tablets
features: fast charging/quick charge/65w, shockproof/rugged/drop protection, magnetic/magsafe compatible,
    foldable/folding, 5g/fifth generation
smartphone/mobile phone/cell phone @ 420
tablet/slate computer @ 300
phone case/mobile cover/bumper shell @ 18
charger/power adapter/wall plug @ 25
power bank/portable battery/battery pack @ 35
screen protector/tempered glass/display film @ 12
## Photo & Video
features: 4k/ultra hd/uhd, image stabilisation/stabilizer/gimbal, night vision/infrared/low light,
    motion detection/movement sensor
camera/photo apparatus/digicam @ 480
action cam/sports camera @ 190
tripod/camera stand @ 45
security camera/surveillance cam/cctv @ 75
projector/beamer/home cinema @ 280
# Clothing
materials: cotton, wool/merino, denim/jean fabric, polyester/synthetic, linen/flax, silk/satin
kinds: for men/mens/gents, for women/womens/ladies, for boys, for girls, plus size/big and tall
## Tops
features: long sleeve/full sleeve, short sleeve/half sleeve, hooded/with hood, v neck/v cut, striped/stripes,
    slim fit/fitted
t shirt/tee/top @ 18
sweater/pullover/jumper @ 45
hoodie/sweatshirt/hooded top @ 42
blouse/dress shirt/button up @ 35
tank top/singlet/sleeveless shirt @ 15
## Bottoms
features: high waist/high rise, stretch/elastic, ripped/distressed, with pockets/cargo, pleated/folded
jeans/denim pants/dungarees @ 55
trousers/pants/slacks @ 48
shorts/bermudas @ 28
skirt/midi bottom @ 34
leggings/tights/yoga pants @ 26
## Outerwear
features: waterproof/rain proof, insulated/thermal/warm, lightweight/packable, with hood/hooded,
    reflective/high visibility
jacket/coat @ 95
parka/winter coat/anorak @ 150
raincoat/rain jacket/mackintosh @ 70
vest/gilet/bodywarmer @ 50
## Dresses & Suits
features: floral/flower print, maxi/floor length, formal/evening, casual/everyday, wrap/tie waist
dress/gown/frock @ 60
suit/two piece/tuxedo @ 190
jumpsuit/romper/one piece @ 55
pyjamas/pajamas/sleepwear @ 32
# Shoes & Bags
materials: leather/cowhide, suede/nubuck, mesh/knit, canvas/sailcloth, vegan leather/faux leather
kinds: for men/mens, for women/womens/ladies, for kids/childrens, wide fit/extra wide
## Sports Shoes
features: cushioned/soft sole, lightweight/featherlight, trail/off road, breathable/ventilated,
    non slip/grip sole
running shoes/jogging trainers/runners @ 90
sneakers/trainers/gym shoes @ 70
football boots/soccer cleats @ 75
hiking boots/trekking shoes/walking boots @ 120
## Everyday Shoes
features: slip on/laceless, high heel/stiletto, orthopedic/arch support, lined/fleece inside,
    platform/chunky sole
sandals/flip flops/open shoes @ 40
loafers/moccasins/slip ons @ 75
ankle boots/booties/chelsea boots @ 95
slippers/house shoes @ 25
pumps/court shoes/heels @ 65
## Bags & Luggage
features: anti theft/secure, with laptop compartment/laptop sleeve, expandable/extendable,
    with wheels/trolley/rolling, crossbody/shoulder strap
backpack/rucksack/school bag @ 55
handbag/purse/tote @ 85
suitcase/luggage/carry on @ 110
wallet/billfold/card holder @ 35
gym bag/duffel/holdall @ 45
# Home & Furniture
materials: oak/solid wood/hardwood, pine/softwood, steel/metal, velvet/plush, rattan/wicker, marble/stone
kinds: small/space saving, large/xl, for two/double, modular/sectional
## Living Room
features: with storage/storage space, convertible/fold out/sleeper, reclining/adjustable back, mid century/retro,
    scandinavian/nordic
sofa/couch/settee @ 650
armchair/accent chair/lounge chair @ 280
coffee table/side table/cocktail table @ 140
bookcase/bookshelf/shelving unit @ 120
tv stand/media console/entertainment unit @ 170
## Bedroom
features: memory foam/viscoelastic, orthopaedic/firm, hypoallergenic/anti allergy, cooling/breathable,
    quilted/padded
mattress/bed pad @ 380
bed frame/bedstead @ 260
pillow/cushion/headrest @ 30
duvet/comforter/quilt @ 70
wardrobe/closet/armoire @ 330
nightstand/bedside table @ 80
## Office
features: height adjustable/sit stand, ergonomic/lumbar support, lockable/with lock, foldable/folding,
    swivel/rotating
desk/work table/writing table @ 210
office chair/desk chair/task chair @ 180
filing cabinet/drawer unit/document cupboard @ 120
desk lamp/reading light/table lamp @ 35
## Decor & Textiles
features: blackout/light blocking, hand woven/handmade, washable/machine wash, geometric/patterned,
    vintage/antique style
curtains/drapes/window panels @ 40
rug/carpet/floor mat @ 110
mirror/looking glass @ 75
wall clock/timepiece @ 32
vase/flower pot/planter @ 28
picture frame/photo frame @ 18
# Kitchen
materials: stainless steel/inox, cast iron/iron, ceramic/stoneware/porcelain, silicone/rubber, bamboo/wood,
    borosilicate/glass
kinds: small/for one person, family size/large, set of four/4 piece, professional/chef
## Cookware
features: non stick/anti stick, induction/hob safe, with lid/covered, oven safe/heat resistant,
    dishwasher safe/easy clean
frying pan/skillet @ 38
saucepan/cooking pot/stockpot @ 45
baking tray/oven sheet/cookie sheet @ 18
wok/stir fry pan @ 42
casserole/dutch oven/stew pot @ 80
## Small Appliances
features: programmable/with timer, digital/touch control, quiet/low noise, cordless/wireless,
    energy saving/low power
coffee maker/espresso machine/coffee brewer @ 120
kettle/water boiler @ 40
blender/smoothie maker/mixer jug @ 60
toaster/bread grill @ 38
air fryer/hot air cooker/oil free fryer @ 110
stand mixer/dough kneader/kitchen machine @ 210
## Tableware
features: stackable/nesting, microwave safe, hand painted/decorated, double wall/insulated, matte/unglazed
mug/cup/tumbler @ 14
plates/dishes/dinnerware @ 40
wine glasses/goblets/stemware @ 32
cutlery/flatware/silverware @ 45
## Knives & Storage
features: airtight/sealed, damascus/layered steel, leakproof/spill proof, magnetic/with magnet,
    bpa free/food safe
chef knife/cooking knife/santoku @ 55
lunch box/bento/food container @ 22
storage jar/canister/pantry container @ 16
cutting board/chopping board @ 25
water bottle/flask/thermos @ 24
# Tools & Garden
materials: steel/hardened metal, fibreglass/composite, wood/timber, rubber/elastomer, titanium/alloy
kinds: heavy duty/industrial, compact/lightweight, 18v/18 volt, 3 piece/set, electric/corded
## Power Tools
features: cordless/battery powered/wireless, brushless/carbon free motor, variable speed/speed control,
    with case/carry box, laser guide/laser line
drill/power driver/screw gun @ 95
circular saw/hand held saw @ 120
angle grinder/disc grinder @ 75
sander/sanding machine @ 60
pressure washer/jet cleaner/power washer @ 160
## Hand Tools
features: insulated/vde, ratcheting/ratchet, magnetic tip/magnetic, telescopic/extendable,
    non slip handle/soft grip
hammer/mallet @ 22
screwdriver/screw turner @ 18
wrench/spanner @ 26
pliers/pincers/nippers @ 20
tool box/tool chest/toolkit @ 65
ladder/step stool/steps @ 90
## Garden
features: self propelled/drive assisted, weatherproof/outdoor, drip/micro irrigation, foldable/collapsible,
    solar/solar powered
lawn mower/grass cutter @ 260
hedge trimmer/bush cutter @ 95
garden hose/water pipe/hosepipe @ 35
patio set/garden furniture/outdoor table and chairs @ 320
grill/barbecue/bbq @ 220
pruning shears/secateurs/garden scissors @ 24
## Bath & Fixtures
features: dual flush/water saving, thermostatic/temperature control, wall mounted/wall hung,
    brushed/satin finish, led/lighted
faucet/tap/mixer @ 95
shower head/hand shower/rain shower @ 45
toilet seat/wc lid @ 40
ceiling light/pendant lamp/chandelier @ 85
door lock/deadbolt/latch @ 60
# Sports & Outdoors
materials: nylon/ripstop, carbon/graphite, foam/eva, neoprene/wetsuit rubber, aluminium/alloy
kinds: for beginners/starter, for kids/junior, for women/womens, professional/competition
## Fitness
features: adjustable/variable weight, foldable/space saving, non slip/anti skid, smart/app connected,
    heavy/extra strong
yoga mat/exercise mat/gymnastics pad @ 28
dumbbells/hand weights/barbell set @ 75
treadmill/running machine @ 520
resistance bands/exercise loops/stretch cords @ 20
exercise bike/stationary bicycle/spin bike @ 330
## Camping
features: waterproof/rainproof, ultralight/lightweight, four season/winter, pop up/instant, insulated/thermal
tent/camping shelter @ 180
sleeping bag/mummy bag @ 85
camping stove/gas cooker/burner @ 48
headlamp/head torch @ 30
cooler/ice box/cool bag @ 70
## Cycling
features: disc brakes/hydraulic brakes, foldable/folding, full suspension/shock absorbing,
    rechargeable/usb charging, aerodynamic/aero
mountain bike/mtb/off road bicycle @ 620
e bike/electric bicycle/pedelec @ 1400
bike helmet/cycling hard hat @ 55
bicycle light/bike lamp @ 26
bike lock/cycle chain @ 38
## Team & Water Sports
features: inflatable/blow up, polarised/anti glare, hand stitched/match quality, quick dry/fast drying,
    uv protection/sun protection
football/soccer ball @ 28
basketball/hoop ball @ 30
swimsuit/bathing suit/swimwear @ 42
swim goggles/diving glasses @ 20
paddle board/sup @ 340
kayak/canoe @ 480
# Beauty & Health
materials: vegan/plant based, organic/natural/bio, mineral/clay, glycerin/aloe
kinds: for dry skin/moisture, for oily skin/mattifying, for sensitive skin/gentle, for men/mens,
    travel size/mini
## Skin Care
features: fragrance free/unscented, spf 50/sun protection, anti ageing/anti wrinkle/firming,
    with hyaluronic acid/hydrating, brightening/vitamin c
face cream/moisturiser/moisturizer @ 26
cleanser/face wash @ 16
serum/face oil @ 30
sunscreen/sun cream/sunblock @ 20
face mask/sheet mask/peel @ 12
## Hair
features: sulfate free/mild, anti dandruff/scalp care, frizz control/smoothing, volumising/volume,
    colour protect/for dyed hair
shampoo/hair wash @ 14
conditioner/hair balm @ 14
hair oil/leave in treatment @ 19
hair mask/deep treatment @ 17
styling gel/hair wax/pomade @ 11
## Make Up & Scent
features: long lasting/24h, waterproof/smudge proof, matte/no shine, shimmering/glitter, refillable/refill
lipstick/lip colour/lip tint @ 18
mascara/lash definer @ 17
foundation/complexion make up @ 28
perfume/fragrance/eau de parfum @ 75
nail polish/nail lacquer @ 10
## Wellness
features: sugar free/no added sugar, high protein/protein rich, fast acting/quick relief, chewable/gummies,
    high dose/extra strength
vitamins/supplements/multivitamin @ 22
protein powder/whey shake @ 38
fish oil/omega 3 @ 20
hand cream/hand lotion @ 9
# Personal Care Devices
materials: ceramic/tourmaline, stainless steel/inox, plastic/abs, titanium/alloy
kinds: for men/mens, for women/womens/ladies, travel size/compact, professional/salon
## Hair Styling
features: ionic/frizz control, cordless/wireless, fast heating/quick heat, with diffuser/styling nozzle,
    washable/wet and dry
hair dryer/blow dryer @ 55
straightener/flat iron/hair iron @ 60
beard trimmer/hair clipper/shaver @ 48
curling iron/curling wand/hair curler @ 45
## Health
features: rechargeable/usb charging, quiet/silent motor, with app/bluetooth, large display/easy read,
    pressure sensor/smart sensor
electric toothbrush/sonic toothbrush @ 70
massage gun/muscle massager @ 95
blood pressure monitor/bp meter @ 50
thermometer/fever gauge @ 24
bathroom scale/body scale @ 35
# Toys & Baby
materials: wood/wooden, plush/soft, plastic/abs, cardboard/paper, organic cotton/cotton
kinds: for toddlers/1 to 3 years, for ages 4 to 7/preschool, for ages 8 plus/older kids,
    for babies/newborn/infant, for the whole family/all ages
## Toys
features: remote control/rc, educational/learning/stem, with sound/musical, magnetic/magnets,
    glow in the dark/luminous
building blocks/construction bricks/toy bricks @ 38
doll/toy figure @ 28
puzzle/jigsaw @ 18
toy car/model vehicle @ 20
stuffed animal/teddy/cuddly toy @ 22
board game/family game/tabletop @ 32
train set/toy railway @ 60
## Baby
features: leakproof/anti spill, foldable/compact fold, adjustable/grows along, machine washable/washable cover,
    anti colic/vented
stroller/pushchair/buggy @ 260
car seat/child seat/booster @ 150
baby monitor/babyphone @ 85
diapers/nappies @ 30
high chair/feeding chair @ 95
baby bottle/feeding bottle @ 14
## Crafts & School
features: washable/wipe off, refillable/with refills, fine tip/precision, double sided/dual, non toxic/safe
colouring pencils/crayons/pencil set @ 14
paint set/watercolours/acrylics @ 20
notebook/exercise book/journal @ 9
fountain pen/ink pen @ 32
backpack for school/satchel/book bag @ 45
# Groceries
materials: organic/bio, whole grain/wholemeal, free range/outdoor bred, recyclable/eco pack, fair trade/ethical
kinds: large pack/bulk/value pack, single serve/portion pack, gift box/assortment, for kids/childrens
## Drinks
features: decaf/caffeine free, dark roast/strong, sugar free/zero, sparkling/carbonated,
    cold pressed/not from concentrate
coffee beans/whole bean coffee @ 18
tea/infusion/herbal brew @ 9
juice/fruit drink @ 6
mineral water/spring water @ 5
energy drink/booster drink @ 8
## Pantry
features: gluten free/no gluten, low salt/reduced sodium, extra virgin/first press, spicy/hot, vegan/plant based
pasta/noodles/spaghetti @ 6
olive oil/cooking oil @ 13
chocolate/cocoa bar/candy @ 7
cereal/muesli/granola @ 8
nuts/trail mix/snack mix @ 11
# Pets
materials: plush/soft, plastic/polymer, nylon/webbing, natural wood/wooden, rubber/latex
kinds: for puppies/junior, for seniors/older pets, for small breeds/mini, for large breeds/xl, for kittens
## Feeding & Care
features: grain free/no grain, odour control/anti smell, automatic/self filling, hypoallergenic/sensitive,
    dust free/low dust
dog food/kibble/canine meal @ 42
cat food/feline meal @ 35
cat litter/kitty sand @ 20
pet bowl/feeding dish @ 16
aquarium/fish tank @ 110
## Sleep & Play
features: chew proof/indestructible, orthopedic/memory foam, washable/removable cover, reflective/night safe,
    foldable/collapsible
dog bed/pet cushion @ 48
cat tree/scratching post @ 75
leash/lead/dog line @ 22
pet carrier/transport crate @ 45
dog toy/fetch toy @ 12
# Household
materials: recycled/eco, microfibre/microfiber, bamboo/wood fibre, plastic free/compostable
kinds: large pack/bulk/value pack, compact/small, family size/xl, refill/pouch
## Cleaning
features: concentrated/ultra, scented/perfumed, biodegradable/eco friendly, antibacterial/disinfecting,
    sensitive/dye free
laundry detergent/washing liquid @ 16
dish soap/washing up liquid @ 6
paper towels/kitchen roll @ 12
trash bags/bin liners/garbage sacks @ 9
mop/floor wiper @ 28
## Floor & Laundry Machines
features: bagless/cyclonic, cordless/battery powered, quiet/low noise, hepa/allergen filter, steam/hot vapour
vacuum cleaner/hoover/dust collector @ 190
robot vacuum/cleaning robot @ 320
iron/garment press @ 48
drying rack/clothes horse/laundry airer @ 34
washing machine/clothes washer @ 480
# Auto & Office
materials: rubber/all weather, leather/leatherette, steel/metal, microfibre/microfiber, recycled/eco
kinds: universal/fits all, for suv/4x4, small/compact, set of two/pair, professional/workshop
## Car
features: wireless/bluetooth, heated/warming, waterproof/rain proof, led/bright, quick release/clip on
car floor mats/footwell mats @ 45
dash cam/car camera @ 90
jump starter/battery booster @ 80
car phone holder/phone mount @ 20
roof rack/roof bars @ 140
windshield wipers/wiper blades @ 24
## Motor Care
features: biodegradable/eco, streak free/no residue, long lasting/durable, fully synthetic/high performance,
    scratch remover/polishing
engine oil/motor oil/lubricant @ 38
car wax/polish/paint sealant @ 22
car vacuum/handheld cleaner @ 50
tyre inflator/air compressor/tire pump @ 45
## Office Supplies
features: laser/toner, recycled/eco, wireless/wifi, double sided/duplex, heavy duty/high capacity
printer/all in one printer/inkjet @ 150
printer paper/copy paper/a4 sheets @ 12
ink cartridge/toner/printer ink @ 35
shredder/paper destroyer @ 85
label maker/lettering device @ 40
stapler/paper fastener @ 14
"""

COLOURS: Final = (
    "black/jet black/noir, white/ivory/off white, grey/gray/silver, red/crimson/scarlet, blue/navy/azure, "
    "green/olive/emerald, yellow/mustard, pink/rose/blush, brown/tan/cognac, purple/violet/lilac, "
    "beige/cream/sand, orange/coral, turquoise/teal, gold/brass"
)

# Kinds within a category, once a shop is too large for its categories: "alpine tent", "retro sofa".
KINDS: Final = (
    "classic, vintage, modern, outdoor, indoor, travel, luxury, basic, urban, sport, eco, smart, hybrid, mini, maxi, "
    "alpine, coastal, desert, arctic, tropical, city, country, family, studio, student, night, summer, winter, spring, "
    "autumn, safety, racing, marine, military, royal, rustic, industrial, retro, premium, starter, expert, ultra, "
    "soft, hard, slim, wide, tall, low, round, square, curved, flat, twin, triple, solo, quick, slow, dual, micro, mega"
)

FILLERS: Final = (
    "new, original, best seller, sale, free shipping, top quality, gift idea, 2026 edition, premium, genuine, "
    "hot deal, limited edition, official, upgraded, with warranty, bundle, must have"
)
"""Words that sellers add to titles to be found or noticed; they do not describe the item."""


@dataclass(frozen=True)
class Leaf:
    """One category of the tree: its names (the first is its name in the tree) and the typical price of its items."""

    department: str
    group: str
    names: tuple[str, ...]
    price: float


@dataclass(frozen=True)
class Vocabulary:
    """The shop's words: each attribute is a list of values, each value a tuple of names that mean it.

    `materials` and `kinds` are keyed by department, `features` by (department, group).
    """

    leaves: tuple[Leaf, ...]
    materials: dict[str, list[tuple[str, ...]]]
    kinds: dict[str, list[tuple[str, ...]]]
    features: dict[tuple[str, str], list[tuple[str, ...]]]
    colours: list[tuple[str, ...]]


def read_vocabulary(text: str = SHOP) -> Vocabulary:
    """The vocabulary in `text`, in the notation of `SHOP`."""
    leaves: list[Leaf] = []
    vocabulary = Vocabulary((), {}, {}, {}, _values(COLOURS))
    department = group = ""
    for line in text.replace("\n    ", " ").strip().splitlines():
        mark, _, content = line.partition(" ")
        match mark:
            case "#":
                department = content
            case "##":
                group = content
            case "materials:":
                vocabulary.materials[department] = _values(content)
            case "kinds:":
                vocabulary.kinds[department] = _values(content)
            case "features:":
                vocabulary.features[department, group] = _values(content)
            case _:
                names, price = line.split("@")
                leaves.append(Leaf(department, group, _names(names), float(price)))
    return dataclasses.replace(vocabulary, leaves=tuple(leaves))


def _values(text: str) -> list[tuple[str, ...]]:
    return [_names(value) for value in text.split(",")]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split("/"))

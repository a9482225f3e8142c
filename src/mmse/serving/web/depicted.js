/** Which drawing fits an item: the first whose words stand in the end of its category, its title or its category. */

/** Patterns of words and the drawings they call for; the more special ones first. */
const PATTERNS = [
  [/\b(t[ -]?shirt|tee|polo)s?\b/, "tshirt"], [/\b(hoodie|sweatshirt)/, "hoodie"], [/\b(tank top|singlet)/, "tank"],
  [/\b(sweater|pullover|cardigan|jumper|knitwear)/, "sweater"], [/\b(dress|gown|jumpsuit)(es|s)?\b/, "dress"], [/\bskirt/, "skirt"],
  [/\bshorts\b/, "shorts"], [/\b(trouser|jean|legging|pants|chino|pyjama|pajama|bottoms)/, "trousers"], [/\b(swimsuit|bikini|swimwear)/, "swimsuit"],
  [/\b(vest|gilet|waistcoat)/, "vest"], [/\b(jacket|coat|parka|raincoat|blazer|anorak|outerwear)/, "jacket"], [/\b(suit|tuxedo)s?\b/, "suit"],
  [/\b(blouse|shirt|tops)\b/, "shirt"], [/\b(helmet|hard hat)/, "helmet"], [/\b(cap|hat|beanie)s?\b/, "cap"], [/\b(watch|smartwatch)(es)?\b/, "watch"],
  [/\b(sunglasses|glasses frame|spectacles)/, "glasses"], [/\b(ring|jewell?ery|necklace|earring|bracelet)s?\b/, "ring"],
  [/\b(boot|boots)\b/, "boot"], [/\b(pumps|heels|stiletto|court shoe)/, "heel"], [/\b(sandal|slipper|flip flop)/, "sandal"],
  [/\b(sneaker|shoe|loafer|trainer|footwear)s?\b/, "sneaker"], [/\b(backpack|rucksack)/, "backpack"], [/\b(handbag|purse|tote)/, "handbag"],
  [/\b(suitcase|luggage$|trolley case)/, "suitcase"], [/\b(gym bag|duffel|duffle|holdall|sports bag)/, "gymbag"], [/\b(wallet|card holder)/, "wallet"],
  [/\b(pet carrier|cat carrier|dog carrier)/, "carrier"], [/\b(car seat|child seat)/, "carseat"], [/\bhigh ?chair/, "highchair"],
  [/\bbaby monitor/, "babymonitor"], [/\bbaby bottle/, "babybottle"], [/\b(stroller|pram|buggy)/, "stroller"], [/\b(diaper|nappy|nappies)/, "diaper"],
  [/\b(pet bowl|feeder|dog bowl|cat bowl)/, "bowl"], [/\b(dog bed|cat bed|pet bed)/, "petbed"], [/\b(cat tree|scratching)/, "cattree"], [/\b(leash|dog collar|harness)/, "leash"],
  [/\b(aquarium|fish tank)/, "aquarium"], [/\b(cat litter|litter)\b/, "litter"], [/\b(dog food|cat food|pet food)/, "sack"], [/\b(dog toy|chew|cat toy)/, "bone"],
  [/\bcar vacuum/, "vacuum"], [/\brobot vacuum/, "robot"], [/\b(pressure washer|power washer)/, "washerjet"], [/\b(hair ?dryer|blow ?dryer)/, "hairdryer"], [/\b(washing machine|washer|dryer$|dishwasher)/, "washer"],
  [/\b(straightener|curling iron|curler|flat iron)/, "straightener"], [/\b(hedge trimmer|chain ?saw)/, "hedge"],
  [/\b(trimmer|shaver|clipper|razor)/, "trimmer"], [/\b(electric toothbrush|toothbrush)/, "toothbrush"], [/\bblood pressure/, "pressure"], [/\b(massage|massager)/, "massager"],
  [/\bthermometer/, "thermometer"], [/\b(bathroom scale|kitchen scale|scale)s?\b/, "scale"],
  [/\bnail (polish|varnish|lacquer)/, "nailpolish"], [/\b(lipstick|lip gloss|lip balm)/, "lipstick"], [/\b(mascara|eyeliner)/, "mascara"], [/\b(perfume|cologne|eau de|fragrance)/, "perfume"],
  [/\b(foundation|concealer)/, "foundation"], [/\b(vitamin|fish oil|supplement|capsule|omega|wellness)s?\b/, "pills"], [/\bprotein/, "tub"],
  [/\b(shampoo|conditioner|hair oil|lotion|body wash|hand soap|serum)/, "pump"], [/\b(hair mask|face cream|styling gel|moisturi[sz]er|pomade|wax$)/, "jarcream"],
  [/\b(sunscreen|cleanser|face mask|hand cream|toothpaste|cream|skin care)/, "tube"],
  [/\bcar wax/, "polish"], [/\b(dish soap|laundry detergent|detergent|bleach)/, "detergent"], [/\b(cleaner|spray|deodorant)/, "spray"],
  [/\b(paper towel|toilet paper|tissue)/, "roll"], [/\b(trash bag|bin bag|garbage bag)/, "bags"], [/\b(mop|broom)\b/, "mop"], [/\b(drying rack|clothes horse|airer)/, "rack"],
  [/\bvacuum/, "vacuum"],
  [/\b(phone case|phone cover)/, "phonecase"], [/\bscreen protector/, "protector"], [/\b(phone holder|phone mount)/, "holder"], [/\b(smartphone|mobile phone|phone|iphone)s?\b/, "phone"],
  [/\b(tablet|e ?reader|ipad)s?\b/, "tablet"], [/\b(laptop|notebook computer|chromebook)/, "laptop"], [/\b(monitor|television|tv)s?$/, "monitor"], [/\bkeyboard/, "keyboard"],
  [/\bmouse\b/, "mouse"], [/\b(earbud|in ear|airpod)/, "earbuds"], [/\b(headphone|headset)/, "headphones"], [/\bsound ?bar/, "soundbar"], [/\b(turntable|record player)/, "turntable"],
  [/\b(speaker|subwoofer)/, "speaker"], [/\bdash ?cam/, "dashcam"], [/\baction cam/, "actioncam"], [/\bweb ?cam/, "webcam"], [/\b(security camera|cctv|surveillance)/, "cctv"],
  [/\b(camera|camcorder|lens)\b/, "camera"], [/\bprojector/, "projector"], [/\btripod/, "tripod"], [/\b(hard drive|ssd|disk|memory card|storage drive)/, "drive"],
  [/\b(docking|usb hub|hub|router)\b/, "dock"], [/\b(power bank|battery|batteries)/, "powerbank"], [/\b(charger|adapter|cable)/, "charger"],
  [/\b(sofa|couch|settee|loveseat)/, "sofa"], [/\b(armchair|recliner)/, "armchair"], [/\b(patio|parasol|garden furniture)/, "patio"], [/\b(office chair|chair|stool)/, "chair"],
  [/\bdesk lamp/, "desklamp"], [/\b(ceiling light|pendant|chandelier)/, "ceiling"], [/\b(bicycle light|bike light)/, "bikelight"], [/\b(headlamp|head torch)/, "headlamp"],
  [/\b(lamp|lantern|light|lighting|bulb)s?\b/, "lamp"], [/\btv stand/, "tvstand"], [/\bdesk\b/, "desk"], [/\b(coffee table|table)s?$/, "table"], [/\b(bookcase|bookshelf|shelf|shelves)/, "bookcase"],
  [/\bwardrobe/, "wardrobe"], [/\b(cabinet|nightstand|dresser|drawer)/, "cabinet"], [/\bmattress/, "mattress"], [/\b(pillow|cushion)/, "pillow"], [/\b(duvet|blanket|quilt|comforter)/, "duvet"],
  [/\bsleeping bag/, "sleepingbag"], [/\bbed\b/, "bed"], [/\bvase/, "vase"], [/\bclock/, "clock"], [/\bmirror/, "mirror"], [/\b(picture frame|photo frame|poster|canvas print)/, "frame"],
  [/\b(floor mats?)\b/, "carmat"], [/\b(rug|carpet)\b/, "rug"], [/\b(curtain|blind)s?\b/, "curtains"],
  [/\bkettle/, "kettle"], [/\bwok\b/, "wok"], [/\b(frying pan|skillet|pan)\b/, "pan"], [/\b(saucepan|casserole|pot|cookware|pressure cooker)\b/, "pot"], [/\bbaking tray/, "lunchbox"],
  [/\b(knife|knives)\b/, "knife"], [/\b(mug|cup)s?\b/, "mug"], [/\b(wine glass|glassware|glasses)/, "wineglass"], [/\b(plate|dinnerware|tableware)s?\b/, "plate"], [/\b(cutlery|flatware|fork|spoon)/, "cutlery"],
  [/\b(stand mixer|hand mixer|mixer)\b/, "mixer"], [/\bblender/, "blender"], [/\btoaster/, "toaster"], [/\b(air fryer|fryer)/, "airfryer"], [/\b(coffee maker|espresso|coffee machine)/, "coffeemaker"],
  [/\b(water bottle|thermos|flask|mineral water)/, "bottle"], [/\b(storage jar|jar|honey|jam)\b/, "jar"], [/\bcutting board/, "board"], [/\b(lunch box|food container)/, "lunchbox"], [/\biron\b/, "iron"],
  [/\b(faucet|tap|mixer tap)\b/, "faucet"], [/\bshower/, "shower"], [/\b(lock|padlock)\b/, "lock"], [/\btoilet/, "toilet"], [/\bhose\b/, "hose"], [/\b(shears|secateurs|scissors)/, "shears"],
  [/\b(lawn ?mower|mower)/, "mower"], [/\b(grill|barbecue|bbq)/, "grill"], [/\bdrill/, "drill"], [/\bhammer/, "hammer"], [/\bscrewdriver/, "screwdriver"], [/\b(wrench|spanner)/, "wrench"],
  [/\bpliers/, "pliers"], [/\bsaw\b/, "saw"], [/\bgrinder/, "grinder"], [/\bsander/, "sander"], [/\bladder/, "ladder"], [/\b(tool ?box|tool)s?\b/, "toolbox"],
  [/\btent\b/, "tent"], [/\b(cooler|cool box)/, "cooler"], [/\bstove/, "stove"], [/\b(dumbbell|barbell|kettlebell|weights)/, "dumbbell"], [/\btreadmill/, "treadmill"], [/\byoga/, "mat"],
  [/\bresistance band/, "bands"], [/\bexercise bike/, "exercisebike"], [/\b(e ?bike|electric bike)/, "ebike"], [/\b(bike|bicycle|cycle|cycling)s?\b/, "bicycle"],
  [/\bbasketball/, "basketball"], [/\b(football|soccer|ball)\b/, "football"], [/\bkayak|canoe/, "kayak"], [/\b(paddle ?board|surf)/, "paddleboard"], [/\bgoggles/, "goggles"],
  [/\b(stuffed|plush|teddy)/, "teddy"], [/\bdoll/, "doll"], [/\b(blocks|bricks)\b/, "blocks"], [/\bpuzzle/, "puzzle"], [/\b(board game|game|chess)\b/, "boardgame"], [/\btrain\b/, "train"],
  [/\btoy car/, "toycar"], [/\b(pencil|crayon|colouring)/, "pencils"], [/\b(pen|marker)\b/, "pen"], [/\b(notebook|book|diary|novel)s?\b/, "notebook"], [/\b(paint|craft)/, "paint"],
  [/\b(ink|toner)\b/, "ink"], [/\blabel ?maker/, "labelmaker"], [/\bprinter paper/, "paper"], [/\bprinter/, "printer"], [/\bstapler/, "stapler"], [/\bshredder/, "shredder"], [/\bpaper\b/, "paper"],
  [/\b(engine oil|motor oil|antifreeze)/, "canister"], [/\b(olive oil|oil|vinegar|wine)\b/, "oil"], [/\b(energy drink|soda|beer|cola)/, "can"], [/\b(juice|milk)\b/, "carton"], [/\btea\b/, "teabox"],
  [/\bcoffee/, "pouch"], [/\bchocolate/, "chocolate"], [/\bnuts?\b/, "nuts"], [/\b(cereal|pasta|rice|cookie|snack|pantry)/, "box"],
  [/\b(wiper)/, "wiper"], [/\broof rack/, "roofrack"], [/\b(tyre|tire) inflator|air compressor/, "inflator"], [/\b(tyre|tire|wheel)s?\b/, "tyre"], [/\bjump starter/, "jumper"], [/\bscooter/, "scooter"],
  [/\b(clothing|fashion|apparel)/, "tshirt"], [/\b(electronics|computer)/, "monitor"], [/\b(furniture|living)/, "armchair"], [/\b(beauty|cosmetic|make ?up)/, "jarcream"],
  [/\b(toy)s?\b/, "blocks"], [/\b(sport|fitness)/, "dumbbell"], [/\b(pet)s?\b/, "bone"], [/\b(garden|hardware)/, "shears"], [/\b(kitchen)/, "pot"], [/\b(grocer|food)/, "box"],
  [/\b(office|stationery)/, "pen"], [/\b(car|auto|automotive)\b/, "toycar"], [/\b(shoes)\b/, "sneaker"], [/\bbags?\b/, "handbag"],
];
const ABSTRACT = ["parcel", "prism", "orb", "stack", "column", "arch"];

/** The name of the drawing for a category's steps and a title; without a known word one that stands for the category. */
export function depicted(steps, title, hash) {
  const texts = [...[...steps].reverse().slice(0, 1), title, ...[...steps].reverse().slice(1)].map((text) => text.toLowerCase());
  for (const text of texts) {
    const match = PATTERNS.find(([words]) => words.test(text));
    if (match) return match[1];
  }
  return ABSTRACT[hash(steps.join(">") || title) % ABSTRACT.length];
}

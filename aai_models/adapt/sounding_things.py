"""Things that are heard and can be drawn: what a sound is compared with where the artist gives no list.

Every one can be seen. Places, colours, materials and moods are left out on purpose: silent words in the list draw shares
away from what sounds. Most are one token of CLIP; plain nouns, so that "a photo of a ..." reads well.
"""

from __future__ import annotations

ANIMALS = (
    *("dog", "wolf", "fox", "cat", "lion", "tiger", "bear", "horse", "donkey", "cow", "bull", "pig", "sheep", "goat"),
    *("elephant", "monkey", "mouse", "bat", "rooster", "hen", "chick", "duck", "goose", "turkey", "swan", "pigeon"),
    *("crow", "owl", "eagle", "seagull", "parrot", "bird", "woodpecker", "peacock", "penguin", "frog", "toad", "snake"),
    *("crocodile", "whale", "dolphin", "seal", "bee", "wasp", "fly", "mosquito", "cricket", "cicada"),
)
NATURE = (
    *("rain", "thunder", "lightning", "storm", "wind", "hail", "waves", "river", "waterfall", "fire", "volcano"),
    *("avalanche", "fountain", "leaves"),
)
PEOPLE = (
    *("baby", "children", "man", "woman", "crowd", "audience", "choir", "singer", "laughing person"),
    *("sneeze", "coughing person", "snoring person", "whistling person", "footsteps", "heart", "marching band"),
)
TRAFFIC = (
    *("car", "race car", "truck", "bus", "motorcycle", "bicycle", "train", "steam locomotive", "subway", "tram"),
    *("airplane", "fighter jet", "helicopter", "drone", "rocket", "ship", "sailboat", "motorboat", "rowing boat"),
    *("ambulance", "police car", "fire engine", "tractor", "excavator", "skateboard", "carriage"),
)
TOOLS = (
    *("chainsaw", "lawn mower", "drill", "jackhammer", "hammer", "saw", "axe", "scissors", "shovel", "sewing machine"),
    *("typewriter", "keyboard", "printer", "camera", "factory", "robot", "engine", "windmill", "crane", "anvil"),
)
HOME = (
    *("vacuum cleaner", "washing machine", "blender", "hair dryer", "fan", "kettle", "frying pan", "coffee machine"),
    *("clock", "alarm clock", "cash register", "telephone", "mobile phone", "doorbell", "door", "stairs", "shower"),
    *("bathtub", "toilet", "water tap", "swimming pool", "radio", "television", "loudspeaker", "turntable", "bottle"),
    *("tin can", "coins", "keys", "zipper", "paper", "book", "broken glass", "balloon", "candle", "microwave"),
)
SIGNALS = (
    *("bell", "church bell", "bicycle bell", "cowbell", "siren", "smoke alarm", "lighthouse", "car horn", "whistle"),
    *("gun", "machine gun", "cannon", "fireworks", "explosion", "chain", "sword", "whip", "bow and arrow"),
)
PLAY = (
    *("basketball", "tennis racket", "bowling ball", "table tennis", "pool table", "dice", "playing cards"),
    *("slot machine", "arcade machine", "music box", "swing", "marbles"),
)
MUSIC = (
    *("piano", "organ", "harpsichord", "accordion", "harmonica", "guitar", "electric guitar", "bass guitar", "banjo"),
    *("ukulele", "mandolin", "sitar", "harp", "violin", "cello", "double bass", "orchestra", "flute", "clarinet"),
    *("saxophone", "oboe", "trumpet", "trombone", "french horn", "tuba", "bagpipes", "didgeridoo", "drum", "drum kit"),
    *("cymbals", "gong", "tambourine", "maracas", "xylophone", "steel drum", "castanets", "singing bowl"),
    *("wind chimes", "synthesizer"),
)
SOUNDING_THINGS = (*ANIMALS, *NATURE, *PEOPLE, *TRAFFIC, *TOOLS, *HOME, *SIGNALS, *PLAY, *MUSIC)

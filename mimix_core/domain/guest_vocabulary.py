"""Words by which ``guest_actions`` tells what belongs to a character from what does not."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BODY = _words(
    "arm arms hand hands finger fingers fist fists thumb thumbs palm palms elbow elbows shoulder "
    "shoulders head face hair eye eyes eyebrow eyebrows brow ear ears nose mouth lip lips "
    "tongue tooth teeth brows cheek cheeks chin neck chest belly stomach back hip hips waist lap "
    "leg legs knee knees foot feet toe toes heel heels paw paws tail fur whiskers wing wings "
    "claw claws body beard mustache moustache forehead muzzle snout ponytail skin breath balance"
)
"""Parts of a body: in the mask as the character is."""

WORN = _words(
    "hat cap helmet crown glasses sunglasses goggles mask scarf tie bow coat jacket shirt t-shirt "
    "sweater sweatshirt hoodie vest dress skirt trousers pants jeans shorts suit uniform apron "
    "gloves glove mittens boots boot shoes shoe sneakers sandals socks sock pocket pockets belt "
    "robe gown pajamas pyjamas costume cape cloak collar sleeve sleeves necklace earrings clothes "
    "outfit headband bandana overalls armor armour cardigan blouse raincoat tracksuit"
)
"""What a character wears: in the mask where it is worn."""

MANNER = _words(
    "smile grin frown smirk laugh laughter expression look gaze stare voice tone care surprise "
    "fear joy anger delight excitement confusion doubt terror shock horror disgust pain relief "
    "pride sadness concern interest curiosity confidence suspicion amusement disbelief "
    "concentration determination frustration annoyance amazement astonishment enthusiasm "
    "embarrassment contentment satisfaction disappointment worry panic silence thought "
    "hesitation tear caution ease effort manner way gesture gestures posture pose steps step "
    "movement movements motion stance tears energy force strength"
)
"""How something is done."""

SURROUNDINGS = _words(
    "left right side spot place moment while time seconds second circle circles air ground floor "
    "picture view frame shot camera viewer screen foreground distance direction directions "
    "sides top bottom middle center centre front back"
)
"""Directions, times, and what every scene has."""

DETERMINERS = _words(
    "a an the this that these those some any each every another one two three four several many "
    "both all no his her its their your my our"
)
POSSESSIVES = _words("his her its their own")
REFLEXIVES = _words("himself herself itself themselves")
PRONOUNS = _words("he she they")

PREPOSITIONS = _words(
    "with without beside besides on in at near by under over behind into onto from to toward "
    "towards around through across against along past up down off out of for like inside outside "
    "above below between among during after before until about upon within beneath underneath amid "
    "next-to in-front-of out-of on-top-of away-from close-to because-of instead-of wearing"
)
COMPOUND_PREPOSITIONS = (
    ("in", "front", "of"),
    ("on", "top", "of"),
    ("next", "to"),
    ("out", "of"),
    ("away", "from"),
    ("close", "to"),
    ("because", "of"),
    ("instead", "of"),
)
SUBORDINATORS = _words("while as when where because though although if that which who whose")
ADVERBS = _words(
    "away back forward forwards backward backwards straight ahead still upright again twice once "
    "together alone home here there upward upwards downward downwards sideways left right fast "
    "hard well aside apart about too then now just almost even very quite first last nearby "
    "outside inside indoors outdoors upstairs downstairs aloud upside"
)
LINKING_VERBS = _words(
    "is looks seems appears stays remains keeps stands sits lies gets turns becomes feels sounds "
    "goes falls grows freezes acts walks"
)
"""Verbs that an adjective follows: it is not an object."""

DEPENDENT_VERBS = _words(
    "leans clings hangs climbs rides drives dangles rests perches sails rows swings floats swims "
    "reaches belongs plays picks puts takes grabs lifts carries throws draws pulls pushes holds "
    "wipes begins starts tries continues wants prepares"
)
"""Verbs that say nothing, or something else, without what they refer to."""
INFINITIVE_VERBS = _words("begins starts tries continues seems wants stops prepares")
WEARING_VERBS = _words("wears wearing")
TRAILING_ADJECTIVES = _words("open half wide spread shut akimbo")
"""Adjectives that follow their noun: "with his mouth open"."""

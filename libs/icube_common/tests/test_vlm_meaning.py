"""Meaning of the sentence encoder's descriptions: paraphrases of actions, and classes never seen."""

from __future__ import annotations

import torch

from icube_common.vlm import load_vlm

# two sentences for each of the nine actions of Florence 3D, and five paraphrases of each, all written for this test
DESCRIPTIONS = {
    "wave": ["a person waves a hand in the air", "the raised hand moves from side to side as a greeting"],
    "drink from a bottle": ["a person drinks from a bottle", "the bottle is lifted to the mouth and tilted"],
    "answer phone": ["a person answers the phone", "the telephone is held against the ear for a call"],
    "clap": ["a person claps their hands", "both palms strike each other again and again as applause"],
    "tie lace": ["a person ties a shoe lace", "bending to the shoe, the fingers knot its laces"],
    "sit down": ["a person sits down on a chair", "the body is lowered onto a seat"],
    "stand up": ["a person stands up from a chair", "rising from the seat to an upright position"],
    "read watch": ["a person reads their watch", "the wrist is raised and looked at to see what time it is"],
    "bow": ["a person bows", "the upper body bends forward as a sign of respect"],
}
PARAPHRASES = {
    "wave": [
        "someone says hello with a moving arm held high",
        "swinging the open palm left and right to greet a friend",
        "she signals goodbye with her hand",
        "he is flapping his lifted hand to get attention",
        "greeting somebody from afar by a hand gesture",
    ],
    "drink from a bottle": [
        "taking a sip of water",
        "he swallows some lemonade from a flask",
        "she quenches her thirst",
        "gulping down a beverage",
        "raising a plastic bottle to the lips",
    ],
    "answer phone": [
        "picking up a call on the mobile",
        "she talks into her smartphone",
        "holding a handset to the side of the head",
        "he takes a telephone call",
        "someone is speaking with a caller on a cell phone",
    ],
    "clap": [
        "applauding",
        "giving a round of applause",
        "the audience member beats the palms together",
        "she smacks her hands against one another in delight",
        "striking both hands to make a sound",
    ],
    "tie lace": [
        "doing up one's sneakers",
        "making a knot in the strings of a boot",
        "he fastens his footwear",
        "kneeling to fix loose shoestrings",
        "tightening the laces of the trainers",
    ],
    "sit down": [
        "taking a seat",
        "settling into an armchair",
        "he lowers himself onto the sofa",
        "she takes her place on the bench",
        "going from standing to seated",
    ],
    "stand up": [
        "getting up from the sofa",
        "rising to one's feet",
        "he leaves his seat and straightens the legs",
        "she gets out of the armchair",
        "going from seated to standing",
    ],
    "read watch": [
        "checking the time on the wrist",
        "glancing at a wristwatch",
        "she looks what the hour is",
        "he consults the clock that he wears on his arm",
        "turning the forearm to see the dial",
    ],
    "bow": [
        "leaning the trunk forward politely",
        "inclining the head and back in reverence",
        "a respectful Japanese greeting with a bent back",
        "the actor bends at the waist before the audience",
        "stooping to show humility",
    ],
}


def test_paraphrases_of_actions_are_nearest_to_the_right_class() -> None:
    assert sum(map(len, PARAPHRASES.values())) == 45
    known = {text for texts in DESCRIPTIONS.values() for text in texts}
    assert not known & {text for texts in PARAPHRASES.values() for text in texts}
    vlm = load_vlm("icube-minilm")
    classes = torch.stack([vlm.encode_text(texts).mean(0) for texts in DESCRIPTIONS.values()])
    right = sum(
        int(((vlm.encode_text(texts) @ classes.T).argmax(1) == number).sum())
        for number, texts in enumerate(PARAPHRASES.values())
    )
    print(f"{right} of 45 paraphrases are nearest to the right class")
    assert right >= 36  # 80 %

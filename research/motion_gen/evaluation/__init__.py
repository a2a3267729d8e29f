"""The ruler of the motion: one table on data that nothing was trained on (`run`).

    talkingface evaluate motion --tracking DIR --names DIR --voices DIR --report DIR
        [--landmarker TASK --portrait FILE --portraits DIR --speech DIR]

The measures are functions of curves and know nothing of models or files: `curves`, `mouth`,
`closures`, `blinks`, `gaze`, `head`, `smoothness`; of landmarks, drawn or filmed: `features`,
`theval`. `finished` draws portraits and reads them back. The parts of the table that run the models
are `sections`; `pipeline` runs them through the real sessions. Needs the extra `training`.
"""

# Parts of the table: modules of `sections`.
SECTIONS = (
    "lips", "closures", "liveliness", "controls", "emotion", "robustness", "languages",
    "expression", "articulation", "cost",
)  # fmt: skip

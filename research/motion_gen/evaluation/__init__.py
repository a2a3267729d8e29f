"""The benchmark of motion: one table on data that nothing was trained on (`run`).

    talkingface evaluate motion --tracking DIR --names DIR --voices DIR --report DIR
        [--landmarker TASK --portrait FILE --portraits DIR --speech DIR]

The measures are functions without models or files: of curves `curves`, `mouth`, `closures`,
`blinks`, `gaze`, `head`, `smoothness`; of landmarks `features`, `theval`. `rendered` renders
portraits and detects landmarks in them. The parts of the table that run the models are `sections`;
`pipeline` runs them through the real sessions. Needs the extra `training`.
"""

# Parts of the table: modules of `sections`.
SECTIONS = (
    "lips", "closures", "liveliness", "controls", "emotion", "robustness", "languages",
    "expression", "articulation", "cost",
)  # fmt: skip

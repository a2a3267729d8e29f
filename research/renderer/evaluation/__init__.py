"""The ruler of the picture: one table on portraits and clips that nothing was trained on (`ruler`).

    talkingface evaluate picture --portraits DIR --videos DIR --report DIR

Everything is drawn without servers by the services' own code (`painter`) and measured in the
finished picture. Needs the extra `evaluation`.
"""

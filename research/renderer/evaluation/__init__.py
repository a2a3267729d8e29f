"""The ruler of the picture: one table on portraits and clips that nothing was trained on (`run`).

    talkingface evaluate picture --portraits DIR --videos DIR --report DIR

Everything is drawn without servers by the services' own code (`offline_renderer`) and measured in
the finished picture.
"""

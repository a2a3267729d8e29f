"""The benchmark of rendered frames: a table on portraits and clips not used in training (`run`).

    talkingface evaluate picture --portraits DIR --videos DIR --report DIR

All frames are rendered without servers by the services' own code (`offline_renderer`) and measured
when they are finished.
"""

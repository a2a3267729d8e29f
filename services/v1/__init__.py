"""Generated from `protos/talkingface/v1` by `make protos`; not edited by hand."""

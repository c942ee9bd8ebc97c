"""How captions become arrays: an encoding a file, each a part that `config.data.text` names."""

"""What a command does, apart from its page (airepair/cli/NAME.py): loaded once its words are read
and its arithmetic is chosen.
"""

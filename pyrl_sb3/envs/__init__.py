"""Small goal environments with discrete actions; nothing is imported until one is made."""

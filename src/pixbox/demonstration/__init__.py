"""A first run without data of one's own: aerial scenes drawn by rule, trained, evaluated and shown."""

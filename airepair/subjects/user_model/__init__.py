"""A model file of a user's own as a subject: how it is fed, what its outputs mean, what it was trained on."""

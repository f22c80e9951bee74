"""How the models in the box were made, for whoever wants to make them again."""

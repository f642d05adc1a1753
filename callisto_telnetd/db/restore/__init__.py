"""A backup takes the place of the appliance's database and settings, at once or not at all."""

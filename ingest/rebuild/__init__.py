"""A store that was lost is made anew from the others."""

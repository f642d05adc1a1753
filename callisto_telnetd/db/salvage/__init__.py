"""The repair of a closed database file: what is sound is kept whole, what is damaged is read around, all is counted."""

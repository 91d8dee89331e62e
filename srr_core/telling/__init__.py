"""A report turned into words and pictures for people: the same on the page, in the card and on a terminal."""

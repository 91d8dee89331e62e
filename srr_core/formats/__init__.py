"""How codes lie in files: grids, codecs, packing, layouts, and the adapter that holds L·R."""

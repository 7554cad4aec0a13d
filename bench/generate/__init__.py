"""Makes a data set of any size, the same for the same options: factors, users, lists, attributes, forest and truth."""

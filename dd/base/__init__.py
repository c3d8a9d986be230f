"""What every room stands on: files, paths, checks, seeds, processes, pictures. Nothing here knows of data sets."""

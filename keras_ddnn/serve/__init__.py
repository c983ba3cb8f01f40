"""The two sides at run time: a device that decides, and the cloud it asks."""

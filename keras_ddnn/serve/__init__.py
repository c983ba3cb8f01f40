"""From a trained policy to two machines: a device and a cloud."""

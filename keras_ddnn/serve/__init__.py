"""Two machines that run one artefact: a device that decides, and a cloud that answers the rest."""

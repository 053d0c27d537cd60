"""The main job, ``python -m jaxelbo``: a posterior fitted to real data, its bound, its evidence and a picture."""

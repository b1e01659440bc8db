"""`fdrn annotate`: a page on which people label a folder of images with clicks."""

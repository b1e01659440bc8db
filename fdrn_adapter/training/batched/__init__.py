"""Training without a checkout: folders of images and masks, clicks drawn for whole batches.

    pictures   one image with its objects, brought to one size and kept
    embeddings what a frozen image encoder says of each image, kept (`fdrn encode`)
    corpus     all pictures of a training; draws objects
    crops      rois around objects, crops, shaken colours
    clicks     a simulated annotator, for a whole batch
    spoiled    wrong previous masks, so that negative clicks are needed
    disks      click maps, many times faster than the stock module's
    losses     what is minimised
    plan       how many samples of which size, learning rates
    stepper    one training step of a network
    run        the loop: logs, training state, Ctrl-C
    processes  one process a core, averaged gradients
    start      a network that has not been trained
    resumable  the training state
    interrupts Ctrl-C
    job        all of it: what `fdrn train` does
    encoding   what `fdrn encode` does
"""

"""What ``bsnn-tha`` says by itself: to a newcomer, what to type."""

from __future__ import annotations

WELCOME = """\
bsnn-tha trains, studies and animates spiking neural networks whose weights are single bits.

First, with no data and no download:
  bsnn-tha train                          a network of 1-bit weights on 8 × 8 digits, two minutes
  bsnn-tha report runs/digits-tha-1       how it went, as a page to open in a browser
  bsnn-tha animate run runs/digits-tha-1  its membranes, thresholds and spikes, as a film

Then:
  bsnn-tha train mnist --variant best     downloads MNIST; accurate after a few epochs
  bsnn-tha presets                        every published setting, with its table
  bsnn-tha study digits --trials 20       search thresholds, decay, learning rate
  bsnn-tha data make pets/ -o pets.toml   your own images, arrays or events
  bsnn-tha notebooks                      five notebooks to run, copied to this folder

  bsnn-tha doctor                         what this machine has, and what is wrong
  bsnn-tha COMMAND --help                 all options of a command
"""

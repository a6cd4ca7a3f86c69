"""Columns of the tables that say where what lies: one row a layer, one row a term."""

from __future__ import annotations

# Of a term. Maps are measured with their borders of zeros, UNITS are those of a place.
KIND, READS_AT, READS, COPIED, SPIKES_AT, PADDING, HEIGHT, WIDTH, UNITS = range(9)
# Filters summed over a pooling window (STEP apart, signs up to MOST times in 8 bits), then
# plain ones (STRIDE apart, SIDE² of them a place).
KERNEL, STEP, SIGNS_AT, MOST, BITS_AT, PLAIN_KERNEL, STRIDE, SIDE = range(9, 17)
# Of the map that a way of summing makes, from MADE_AT on; POOL > 1 is what is left to pool then.
MAP_ROWS, MAP_COLUMNS, POOL, MAXIMUM, MADE_AT, SUMS_AT, GAIN_AT = range(17, 24)
# Of inputs that go to their places: where their rows of REACH begin, how many rows of signs a
# tap has, how many outputs a group.
REACH_AT, ROWS_OF_TAP, OUTPUTS, SUMS_MAPS = range(24, 28)
TERM_COLUMNS = 28
DENSE, CONV, GROUPS, SPIKES = range(4)

# Of a layer. LANES are outputs of a place, filled up; EACH are the numbers of a place, 0 where
# all places share them.
TERM_AT, TERMS, PLACES, LANES, CHANNELS, STATE_AT, BITS_FROM = range(7)
OFFSET_AT, THRESHOLD_AT, THRESHOLD_EACH, DECAY_AT, DECAY_EACH = range(7, 12)
SYNAPTIC, SYNAPSE_AT, SYNAPSE_EACH, SYNAPSE_LOW, SYNAPSE_HIGH = range(12, 17)
RESET, SATURATES, LOW, HIGH = range(17, 21)
LAYER_COLUMNS = 21
SUBTRACT, ZERO, NONE = range(3)

# Of an input that goes to its places: the first, how many rows and columns of them, which row
# of signs is the first one's, and the first output of its group.
FIRST, DOWN, RIGHT, ROW_OF, OUTPUT = range(5)
REACH_COLUMNS = 5

UNIT = 16
"""Channels of one unit of bits."""

"""The same work as short programs of the peers, each as its own documentation would write it.

`python -m benchmarks.peers.NAME IMAGES OUT MODEL` reads a directory of images, writes Parquet with
`id` and `feature_vector` into OUT, and prints one line of JSON with its own timings.
"""

IMAGE_SIZE = 224
BATCH_SIZE = 32

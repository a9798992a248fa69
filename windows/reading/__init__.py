"""Reading bytes of token files, on local disks and over the network."""

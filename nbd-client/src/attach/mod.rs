//! Volumes as devices of this machine: through the kernel's nbd driver, or as a file through FUSE.

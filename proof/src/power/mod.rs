//! Power cuts: a disk whose content at any moment can be kept while everything written to it that
//! was not synchronised is lost, as when the power of a machine fails.
//!
//! The disk is an ext4 file system in an image file, on a btrfs file system that can copy files by
//! reference: the copy of the image is what the disk had at one moment, and costs milliseconds. What
//! ext4 still had in memory is not in it. This models the loss of what was never written; it is no
//! disk that lies about what it has, and tears no sector.

mod disk;
mod namespace;

pub use disk::{Disk, Image};
pub use namespace::enter;

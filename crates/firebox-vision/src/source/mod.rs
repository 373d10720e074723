//! Sources of image files.

mod image_folder;
mod walk;

pub use image_folder::ImageFolder;
